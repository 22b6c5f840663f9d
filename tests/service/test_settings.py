"""Settings: parsed once, frozen, every bad value named, every setting documented."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings, SettingsError, parse

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_command_line_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("EXCISE_STORE", "from-environment")
    monkeypatch.setenv("EXCISE_ADMIN_KEYS", "one, two")
    assert parse(store=None).store == "from-environment"
    assert parse(store=Path("given")).store == "given"
    assert [key.get_secret_value() for key in parse().admin_keys] == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_resident_masks", 0),
        ("scoring_queue", "many"),
        ("max_mask_bytes", 1),
        ("max_masks", 0),
        ("max_experiments", 0),
        ("max_choices", 0),
        ("max_admin_calls", 0),
        ("max_labels", 0),
        ("max_mirrored", -1),
        ("scoring_rate", 1.1),
        ("scoring_rate", -0.1),
        ("scoring_rate", float("nan")),
        ("scoring_workers", 0),
        ("scoring_drain", -1),
        ("scoring_drain", float("inf")),
        ("keep_flagged", -1),
        ("flagged_days", 0),
        ("poll_seconds", 0),
        ("unit_header", "x user"),
        ("unit_header", "Authorization"),
    ],
)
def test_a_bad_value_is_named(name, value):
    with pytest.raises(SettingsError, match=f"{name} = {value!r}"):
        parse(**{name: value})


@pytest.mark.parametrize("value", ["s3cret,,other", "s3cret one", "s3cr\u00e9t"])
def test_a_bad_key_is_not_shown(monkeypatch, value):
    monkeypatch.setenv("EXCISE_API_KEYS", value)
    with pytest.raises(SettingsError, match="api_keys") as caught:
        parse()
    assert "s3cr" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["ftp://s3cret@x/", "s3cret", "http://", "https://:80/s3cret", "http://x:y/s3cret", "http://x/s3cret y"]
)
def test_a_bad_webhook_is_named_and_not_shown(url):
    with pytest.raises(SettingsError, match="webhook = \\*") as caught:
        parse(webhook=url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "https://me:s3cret@example.org/hook", "http://127.0.0.1:9000/x?y=s3cret"])
def test_a_webhook_is_read_and_not_shown(url):
    settings = parse(webhook=url)
    assert settings.webhook.get_secret_value() == url
    assert "s3cret" not in repr(settings) + str(settings)


@pytest.mark.parametrize("variable", ["EXCISE_API_KEY", "EXCISE_ADMIN_KEY"])
def test_a_variable_for_keys_that_lacks_its_s_is_refused_for_it_would_leave_the_door_open(monkeypatch, variable):
    monkeypatch.setenv(variable, "s3cret")
    with pytest.raises(SettingsError, match=f"did you mean {variable}S") as caught:
        parse()
    assert "s3cret" not in str(caught.value)


def test_an_empty_variable_is_an_unset_one(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.setenv(f"EXCISE_{name.upper()}", "")
    assert parse() == Settings.model_construct()


def test_every_setting_can_be_given_in_the_environment(monkeypatch):
    given = {
        "api_key_file": "/run/secrets/api",
        "scoring_rate": "0.25",
        "unit_header": "X-User-Id",
        "webhook": "https://example.org/x",
        "max_mirrored": "0",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"EXCISE_{name.upper()}", value)
    settings = parse()
    assert settings.api_key_file == Path("/run/secrets/api")
    assert (settings.scoring_rate, settings.max_mirrored) == (0.25, 0)
    assert settings.unit_header == "x-user-id"


def test_every_setting_says_what_it_is():
    assert all(field.description for field in Settings.model_fields.values())


def test_an_empty_key_on_the_command_line_is_refused_not_taken_for_none(monkeypatch):
    monkeypatch.setenv("EXCISE_API_KEYS", "secret")
    with pytest.raises(SettingsError, match="empty key"):
        parse(api_keys=[""])
    monkeypatch.setenv("EXCISE_API_KEYS", "")
    assert parse().api_keys == ()


def test_keys_are_not_printed_and_settings_do_not_change():
    settings = parse(admin_keys=["s3cret"], database="postgresql://excise:s3cret@db/excise")
    assert "s3cret" not in repr(settings)
    with pytest.raises(ValidationError):
        settings.store = Path("elsewhere")


def test_every_setting_is_documented():
    text = README.read_text()
    for name in Settings.model_fields:
        assert f"`EXCISE_{name.upper()}`" in text, name


def test_an_object_store_needs_a_database_of_its_own():
    with pytest.raises(SettingsError, match="--database"):
        parse(store="s3://bucket/masks")
    assert parse(store="s3://bucket/masks", database="sqlite:///d.db").store == "s3://bucket/masks"
