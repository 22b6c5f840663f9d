"""Keys: those given at start, and those of files, which are read again when they change. Only digests are held.

A key file has one key a line. Blank lines are left out, and so is what follows a `#` that begins a line or comes
after a space.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from service.settings import VISIBLE, Settings, SettingsError

SHORT = 8
"""Characters: a shorter key can be guessed."""

_EVERY = 1.0
"""Seconds: a key file is looked at no more often."""
_LARGEST = 64 * 2**10
"""Bytes of a key file. Every call is compared with every key."""
_LINE_END = re.compile(r"\r\n|\n|\r")  # str.splitlines would make two keys of one with, say, U+2028 in it
_COMMENT = re.compile(r"(^|\s)#.*")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Signature:
    """What tells that a file is another than before."""

    mode: int
    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


def digest(key: str) -> bytes:
    """SHA-256 of a key: what is held and compared of it."""
    return hashlib.sha256(key.encode()).digest()


def matches(key: str, digests: Iterable[bytes]) -> bool:
    """Whether `key` is one of those of `digests`, in a time that does not tell which, or where they differ."""
    given = digest(key)
    comparisons = [hmac.compare_digest(given, one) for one in digests]  # a list: every one is compared
    return bool(key) and any(comparisons)


def fingerprint(key: str) -> str:
    """Eight hex digits by which a key is recognised but not known."""
    return hmac.new(b"excise audit: fingerprint of a key", key.encode(), hashlib.sha256).hexdigest()[:8]


class KeyFile:
    """The keys of one file. A change is taken over once the file has rested for a second: it may be half written.

    A file that can no longer be read, or holds no key, leaves the last good keys in force and is warned of, once.
    `clock`: seconds since 1970, as in the file's times.

    Raises:
        SettingsError: the file cannot be read at start; it names `setting` and never a key.
    """

    def __init__(self, setting: str, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._setting = setting
        self._path = path
        self._clock = clock
        self._checked = clock()
        self._known = self._seen = _signature(path)
        self._digests = self._read()
        if self._known and self._known.mode & stat.S_IROTH:
            _log.warning("%s = %s can be read by everybody on this machine; chmod o-r mends that", setting, path)

    def digests(self) -> tuple[bytes, ...]:
        """Of the keys in force; looks at the file at most once a second."""
        now = self._clock()
        if not 0 <= now - self._checked < _EVERY:  # a clock that was put back must not keep us from looking
            self._checked = now
            self._refresh(now)
        return self._digests

    def _refresh(self, now: float) -> None:
        signature = _signature(self._path)
        rested = signature == self._seen or (signature is not None and now - signature.modified_ns / 1e9 >= _EVERY)
        self._seen = signature
        if signature == self._known or not rested:
            return
        try:
            digests = self._read()
        except SettingsError as error:
            self._known = signature
            _log.warning("%s; the keys read before stay in force", error)
            return
        if _signature(self._path) == signature:
            self._known, self._digests = signature, digests
            _log.info("%s = %s was read again: %d keys", self._setting, self._path, len(digests))

    def _read(self) -> tuple[bytes, ...]:
        try:
            if not self._path.is_file():  # reading a pipe or a device might never end
                raise self._bad("is not there, or is no regular file")
            with self._path.open("rb") as file:
                data = file.read(_LARGEST + 1)
        except OSError as error:
            raise self._bad(f"cannot be read: {error.strerror}") from error
        if len(data) > _LARGEST:
            raise self._bad(f"has more than {_LARGEST} bytes; it should hold one key a line")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise self._bad("is no UTF-8 text; it should hold one key a line") from None
        keys = []
        for number, line in enumerate(_LINE_END.split(text), 1):
            if key := _COMMENT.sub("", line).strip():
                if not VISIBLE.fullmatch(key):
                    raise self._bad(f"holds a space or a character other than ASCII in line {number}; one key a line")
                keys.append(key)
        if not keys:
            raise self._bad("holds no key")
        _warn_of_short(f"{self._setting} = {self._path}", keys)
        return tuple(map(digest, keys))

    def _bad(self, what: str) -> SettingsError:
        return SettingsError(f"bad setting: {self._setting} = {str(self._path)!r}: the file {what}")


class Keys:
    """The keys in force, by role. An admin key also reads; see `access.authorize`."""

    def __init__(
        self,
        api: Iterable[SecretStr] = (),
        admin: Iterable[SecretStr] = (),
        *,
        api_file: KeyFile | None = None,
        admin_file: KeyFile | None = None,
    ) -> None:
        self._api, self._admin = (_key_digests(*ring) for ring in (("api_keys", api), ("admin_keys", admin)))
        self._api_file, self._admin_file = api_file, admin_file

    @staticmethod
    def of(settings: Settings, clock: Callable[[], float] = time.time) -> Keys:
        """The keys that `settings` give.

        Raises:
            SettingsError: a key file cannot be read.
        """
        api_file = KeyFile("api_key_file", settings.api_key_file, clock) if settings.api_key_file else None
        admin_file = KeyFile("admin_key_file", settings.admin_key_file, clock) if settings.admin_key_file else None
        keys = Keys(settings.api_keys, settings.admin_keys, api_file=api_file, admin_file=admin_file)
        if both := len(set(keys.api()) & set(keys.admin())):
            _log.warning(
                "%d of the keys for reading are admin keys as well: whoever may ask the model may change the server. "
                "An admin key also reads; it need not be given twice",
                both,
            )
        return keys

    def api(self) -> tuple[bytes, ...]:
        """Digests of the keys for inference and reading; none: reading is open."""
        return self._api + (self._api_file.digests() if self._api_file else ())

    def admin(self) -> tuple[bytes, ...]:
        """Digests of the keys for changing calls; none: nothing can be changed."""
        return self._admin + (self._admin_file.digests() if self._admin_file else ())


def _key_digests(setting: str, keys: Iterable[SecretStr]) -> tuple[bytes, ...]:
    plain = [key.get_secret_value() for key in keys]
    _warn_of_short(setting, plain)
    return tuple(map(digest, plain))


def _warn_of_short(where: str, keys: Iterable[str]) -> None:
    if short := sum(len(key) < SHORT for key in keys):
        _log.warning("%s: %d of the keys have fewer than %d characters and can be guessed", where, short, SHORT)


def _signature(path: Path) -> Signature | None:
    """None where the file cannot be seen."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return Signature(
        status.st_mode, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )
