"""Settings: parsed once, frozen, every bad value named, every setting documented."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings, SettingsError, parse

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_command_line_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("EXCISE_STORE", "from-environment")
    monkeypatch.setenv("EXCISE_ADMIN_KEYS", "one, two")
    assert parse(store=None).store == Path("from-environment")
    assert parse(store=Path("given")).store == Path("given")
    assert [key.get_secret_value() for key in parse().admin_keys] == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "value"), [("max_resident_masks", 0), ("scoring_queue", "many"), ("max_mask_bytes", 1)]
)
def test_a_bad_value_is_named(name, value):
    with pytest.raises(SettingsError, match=f"{name} = {value!r}"):
        parse(**{name: value})


def test_a_bad_key_is_not_shown(monkeypatch):
    monkeypatch.setenv("EXCISE_API_KEYS", "s3cret,,other")
    with pytest.raises(SettingsError) as caught:
        parse()
    assert "s3cret" not in str(caught.value)


def test_an_empty_key_on_the_command_line_is_refused_not_taken_for_none(monkeypatch):
    monkeypatch.setenv("EXCISE_API_KEYS", "secret")
    with pytest.raises(SettingsError, match="empty key"):
        parse(api_keys=[""])
    monkeypatch.setenv("EXCISE_API_KEYS", "")
    assert parse().api_keys == ()


def test_keys_are_not_printed_and_settings_do_not_change():
    settings = parse(admin_keys=["s3cret"])
    assert "s3cret" not in repr(settings)
    with pytest.raises(ValidationError):
        settings.store = Path("elsewhere")


def test_every_setting_is_documented():
    text = README.read_text()
    for name in Settings.model_fields:
        assert f"`EXCISE_{name.upper()}`" in text, name
