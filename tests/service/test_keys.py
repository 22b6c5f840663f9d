"""Keys: compared in constant time, read from files, rotated without a restart, never shown."""

import logging
import os

import pytest
from pydantic import SecretStr

from service.api.access import Role, authorize
from service.errors import UnauthorizedError
from service.keys import KeyFile, Keys, digest, matches
from service.settings import SettingsError, parse

KNOWN = ("reader-key-one", "reader-key-two", "admin-key-one")


def test_every_key_is_compared_whichever_fits(monkeypatch):
    compared = []
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: compared.append(b) or a == b)
    digests = [digest(key) for key in KNOWN]
    for key in (*KNOWN, "wrong"):
        compared.clear()
        assert matches(key, digests) is (key != "wrong")
        assert compared == digests
    assert not matches("", [digest("")])


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock(1_000_000.0)


@pytest.fixture
def write(tmp_path, clock):
    path = tmp_path / "keys"

    def written(text: str | bytes) -> object:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(0o640)
        os.utime(path, (clock.now, clock.now))
        return path

    return written


def opens(keys: Keys, key: str) -> bool:
    try:
        authorize(Role.ADMIN, f"Bearer {key}", keys)
    except UnauthorizedError:
        return False
    return True


def test_a_key_file_has_one_key_a_line_with_comments(write, clock):
    text = "\ufeff# rotated in spring\r\n\r\nadmin-key-one  # the old one\r\n  admin#key-two\r\n"
    keys = Keys.of(parse(admin_keys=["given-key"], admin_key_file=write(text)), clock)
    assert keys.admin() == tuple(map(digest, ("given-key", "admin-key-one", "admin#key-two")))
    assert keys.api() == ()


def test_keys_rotate_without_a_restart(write, clock):
    keys = Keys(admin_file=KeyFile("admin_key_file", write("old-admin-key\n"), clock))
    write("old-admin-key\nnew-admin-key\n")
    clock.now += 2
    assert opens(keys, "old-admin-key")
    assert opens(keys, "new-admin-key")
    write("new-admin-key\n")
    clock.now += 2
    assert opens(keys, "new-admin-key")
    assert not opens(keys, "old-admin-key")


def test_a_file_replaced_by_one_with_an_older_time_is_read_too(write, clock):
    path = write("old-admin-key")
    keys = Keys(admin_file=KeyFile("admin_key_file", path, clock))
    other = path.with_name("other")
    other.write_text("new-admin-key")
    os.utime(other, (1, 1))
    other.replace(path)
    clock.now += 1
    assert opens(keys, "new-admin-key")


def test_a_file_that_is_being_written_is_left_alone_until_it_rests(write, clock):
    keys = Keys(admin_file=KeyFile("admin_key_file", write("old-admin-key"), clock))
    for half in ("n", "new-ad", "new-admin-k"):
        clock.now += 1
        write(half)
        assert opens(keys, "old-admin-key")
        assert not opens(keys, half)
    write("new-admin-key")
    clock.now += 1
    assert opens(keys, "new-admin-key")


def test_a_file_from_the_future_is_read_once_it_stays_the_same(write, clock):
    path = write("old-admin-key")
    keys = Keys(admin_file=KeyFile("admin_key_file", path, clock))
    write("new-admin-key")
    os.utime(path, (clock.now + 9999, clock.now + 9999))
    clock.now += 1
    assert opens(keys, "old-admin-key")
    clock.now += 1
    assert opens(keys, "new-admin-key")


def test_a_clock_put_back_does_not_keep_old_keys_in_force(write, clock):
    keys = Keys(admin_file=KeyFile("admin_key_file", write("old-admin-key"), clock))
    clock.now -= 500_000
    write("new-admin-key")
    opens(keys, "x")
    clock.now += 1
    assert opens(keys, "new-admin-key")


@pytest.mark.parametrize(
    "bad", [None, b"", b"# nothing\n\n", b"s3cret-key \xff\n", b"s3cret key\n", b"s3cret-key\n" * 9000, "folder"]
)
def test_a_file_gone_bad_keeps_the_last_good_keys_and_is_warned_of_once(write, clock, caplog, bad):
    path = write("old-admin-key")
    keys = Keys(admin_file=KeyFile("admin_key_file", path, clock))
    path.unlink()
    if bad == "folder":
        path.mkdir()
        os.utime(path, (clock.now, clock.now))
    elif bad is not None:
        write(bad)
    for _ in range(5):
        clock.now += 2
        assert opens(keys, "old-admin-key")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(path) in caplog.text
    assert "s3cret" not in caplog.text
    assert "old-admin-key" not in caplog.text
    if bad == "folder":
        path.rmdir()
    write("new-admin-key")
    clock.now += 2
    assert opens(keys, "new-admin-key")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no key"),
        (b"#\n", "holds no key"),
        (b"s3cret\nkey s3cret\n", "line 2"),
        ("s3cr\u00e9t".encode(), "line 1"),
        ("first-key\u2028second-key".encode(), "line 1"),
        (b"s3cret\xff", "UTF-8"),
        (b"x" * 70_000, "more than 65536 bytes"),
    ],
)
def test_a_bad_key_file_at_start_is_an_error_that_names_it_and_no_key(write, content, said):
    path = write(content)
    with pytest.raises(SettingsError, match=said) as caught:
        Keys.of(parse(api_key_file=path))
    assert f"api_key_file = {str(path)!r}" in str(caught.value)
    assert "s3cr" not in str(caught.value)


def test_a_key_file_that_is_no_file_is_an_error_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "nothing", tmp_path, tmp_path / "pipe"):
        with pytest.raises(SettingsError, match="no regular file"):
            Keys.of(parse(admin_key_file=path))


def test_a_key_file_that_everybody_can_read_is_warned_of(write, caplog):
    path = write("a-key-long-enough")
    KeyFile("api_key_file", path)
    assert not caplog.records
    path.chmod(0o644)
    KeyFile("api_key_file", path)
    assert "can be read by everybody" in caplog.text


def test_short_keys_are_warned_of_and_taken(write, caplog):
    keys = Keys.of(parse(api_keys=["tiny1", "long-enough"], api_key_file=write("tiny2\n")))
    authorize(Role.READER, "Bearer tiny1", keys)
    authorize(Role.READER, "Bearer tiny2", keys)
    assert len(caplog.records) == 2
    assert "tiny" not in caplog.text


def test_a_key_that_both_reads_and_changes_is_warned_of(write, caplog):
    Keys.of(parse(api_keys=["reader-key"], admin_keys=["admin-key"]))
    assert not caplog.records
    path = write("one-key-for-all")
    path.chmod(0o600)
    Keys.of(parse(api_keys=["one-key-for-all", "reader-key"], admin_key_file=path))
    assert "1 of the keys for reading are admin keys as well" in caplog.text
    assert "one-key" not in caplog.text


def test_no_key_is_held_or_logged_in_the_clear(write, clock, caplog):
    caplog.set_level(logging.DEBUG)
    keys = Keys([SecretStr("given-s3cret")], api_file=KeyFile("api_key_file", write("filed-s3cret"), clock))
    write("other-s3cret")
    clock.now += 2
    authorize(Role.READER, "Bearer other-s3cret", keys)
    assert "was read again: 1 keys" in caplog.text
    assert "s3cret" not in caplog.text + repr(keys) + repr(vars(keys)) + repr(vars(keys._api_file))
