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


CLOSING = ("api_keys", "api_key_file", "open_probes", "console")


def test_an_empty_variable_is_an_unset_one(monkeypatch):
    for name in set(Settings.model_fields) - set(CLOSING):
        monkeypatch.setenv(f"EXCISE_{name.upper()}", "")
    assert parse() == Settings.model_construct()


@pytest.mark.parametrize("variable", [*(f"EXCISE_{name.upper()}" for name in CLOSING), "VLLM_API_KEY"])
def test_an_empty_variable_that_was_to_close_the_server_is_refused(monkeypatch, variable):
    monkeypatch.setenv(variable, "")
    with pytest.raises(SettingsError, match=f"{variable} is set and empty"):
        parse()
    given = {"api_keys": ["given-key"], "open_probes": False, "console": "off"}
    assert not parse(**given).open_probes


def test_vllms_own_key_is_taken_where_no_key_of_ours_is_given(monkeypatch, tmp_path):
    monkeypatch.setenv("VLLM_API_KEY", "s3cret,one")
    assert [key.get_secret_value() for key in parse().api_keys] == ["s3cret,one"]  # vLLM knows no lists there
    assert [key.get_secret_value() for key in parse(api_keys=["ours"]).api_keys] == ["ours"]
    assert parse(api_key_file=tmp_path / "keys").api_keys == ()
    monkeypatch.setenv("VLLM_API_KEY", "s3cret one")
    with pytest.raises(SettingsError, match="VLLM_API_KEY = \\*") as caught:
        parse()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("EXCISE_APIKEYS", "EXCISE_API_KEYS"),
        ("EXCISE_API_KEYS_FILE", "EXCISE_API_KEY_FILE"),
        ("EXCISE_OPEN_PROBE", "EXCISE_OPEN_PROBES"),
        ("EXCISE_MAX_CHOICE", "EXCISE_MAX_CHOICES"),
        ("EXCISE_DATABASE_URL", "EXCISE_DATABASE"),
        ("EXCISE_READER_API_KEY", ""),
    ],
)
def test_a_misspelt_variable_is_refused(monkeypatch, variable, meant):
    monkeypatch.setenv(variable, "s3cret")
    with pytest.raises(SettingsError, match=f"{variable} is no variable.*{meant}") as caught:
        parse()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("variable", ["EXCISE_PORT", "EXCISE_SERVICE_HOST", "EXCISE_DATA", "EXCISE_PERSPECTIVE_KEY"])
def test_what_others_call_by_our_name_is_left_alone(monkeypatch, variable):
    monkeypatch.setenv(variable, "tcp://10.0.0.1:8000")
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
