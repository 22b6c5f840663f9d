"""Settings of the service: parsed once, frozen. From the command line, or `EXCISE_<NAME>` in the environment."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MAX_RANK = 512
"""Of the factors of a mask of single weights: more would be a second model."""

VISIBLE = re.compile(r"[!-~]+")
"""Visible ASCII without spaces: what a key is made of, as a header can carry it."""

_HEADER = re.compile(r"[a-z0-9_-]{1,64}")
_SECRET_HEADERS = ("authorization", "cookie", "proxy-authorization", "x-api-key")

VLLM_KEY = "VLLM_API_KEY"
"""vLLM's variable for its one key: what protected a server before must go on doing so."""

_CLOSES = ("EXCISE_API_KEYS", "EXCISE_API_KEY_FILE", VLLM_KEY, "EXCISE_OPEN_PROBES", "EXCISE_CONSOLE")
"""Variables by which an operator closes a door. Where one is there and empty, a secret was not filled in."""

_KEY_NAMED = re.compile(r"EXCISE_.*(API|ADMIN).*KEY.*")
_ALIKE = 0.87
"""Ratio of difflib: EXCISE_OPEN_PROBE is meant for EXCISE_OPEN_PROBES, EXCISE_PORT for nothing of ours."""


class SettingsError(ValueError):
    """A setting has a bad value; the message names it."""


class Settings(BaseSettings):
    """Every setting of `excise serve` that is not an option of vLLM."""

    model_config = SettingsConfigDict(env_prefix="EXCISE_", env_ignore_empty=True, frozen=True, extra="forbid")

    store: str = Field(
        "excise-store", description="Folder for mask files and the default database, or an object store's URL."
    )
    database: str = Field("", repr=False, description="SQLAlchemy URL; default: SQLite in the store folder.")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="Keys for inference and reading, comma-separated; none: open."
    )
    admin_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="Keys for changing calls, comma-separated; none: those calls answer 403."
    )
    api_key_file: Path | None = Field(
        None, description="File of more keys for inference and reading, one a line; read again when it changes."
    )
    admin_key_file: Path | None = Field(
        None, description="File of more keys for changing calls, one a line; read again when it changes."
    )
    allow_other_base: bool = Field(
        False, description="Accept masks made for a model with another fingerprint, where the geometry fits."
    )
    max_resident_masks: int = Field(16, ge=1, le=1024, description="Masks in the engine at one time.")
    max_weight_rank: int = Field(
        64, ge=0, le=MAX_RANK, description="Largest rank of a mask of single weights served per request; 0: none are."
    )
    max_mask_bytes: int = Field(256 * 2**20, ge=1024, description="Largest body of POST /masks, bytes.")
    max_body_bytes: int = Field(32 * 2**20, ge=1024, description="Largest body of any other call, bytes.")
    max_masks: int = Field(10_000, ge=1, le=1_000_000, description="Masks that may be registered.")
    max_experiments: int = Field(100, ge=1, le=10_000, description="Experiments that may be kept, stopped ones too.")
    max_choices: int = Field(16, ge=1, le=10_000, description="Largest 'n' or 'best_of' of a request.")
    max_admin_calls: int = Field(600, ge=1, le=1_000_000, description="Calls a minute of one admin key.")
    max_labels: int = Field(
        1000, ge=1, le=100_000, description="Different masks named in the metrics; the rest are counted as 'other'."
    )
    max_mirrored: int = Field(4, ge=0, le=10_000, description="Mirrored requests answered at one time; 0: none are.")
    open_probes: bool = Field(True, description="/health, /ready and /metrics without a key.")
    scorer: str = Field("profanity", description="Toxicity scorer for responses; 'none' switches scoring off.")
    scoring_queue: int = Field(10_000, ge=1, description="Responses that may wait for the scorer; more are dropped.")
    scoring_rate: float = Field(
        1.0, ge=0, le=1, allow_inf_nan=False, description="Share of the users whose responses are scored."
    )
    scoring_workers: int = Field(1, ge=1, le=64, description="Processes that score.")
    scoring_drain: float = Field(
        5.0, ge=0, le=600, allow_inf_nan=False, description="Seconds to score what waits when the server ends."
    )
    coherence_rate: float = Field(
        0.1,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Share of an experiment's units whose coherence the base model judges, of each variant; 0: none.",
    )
    coherence_queue: int = Field(1000, ge=1, description="Responses that may wait to be judged; more are dropped.")
    feedback_hours: float = Field(
        24.0,
        ge=0,
        le=8760,
        allow_inf_nan=False,
        description="Hours in which feedback on a response of an experiment is taken; 0: none is.",
    )
    outcome_days: float = Field(
        30.0, gt=0, le=3650, allow_inf_nan=False, description="Days for which outcomes are kept by the minute."
    )
    keep_flagged: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Toxic or repetitive responses kept for review with their prompts, redacted, the newest; 0: none.",
    )
    flagged_days: float = Field(
        7.0, gt=0, le=3650, allow_inf_nan=False, description="Days after which kept responses are deleted."
    )
    unit_header: str = Field(
        "", description="Request header that names the user in a split, where the body does not; default: none does."
    )
    webhook: SecretStr = Field(
        SecretStr(""), description="URL that is called when a guardrail stops an experiment; default: none is."
    )
    console: Literal["auto", "on", "off"] = Field(
        "auto", description="The console in the browser, /console: with a key of either kind (auto), always, or never."
    )
    regression_days: float = Field(
        7.0, ge=0, le=3650, allow_inf_nan=False, description="Days until promoted masks are measured again; 0: never."
    )
    log_format: Literal["text", "json"] = Field("text", description="Lines of the log: text, or JSON for machines.")
    poll_seconds: float = Field(
        0.5, ge=0.05, le=60, allow_inf_nan=False, description="Seconds between two looks for changes by other replicas."
    )

    @field_validator("api_keys", "admin_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if value == "":  # an empty variable is an unset one
            return ()
        keys = value.split(",") if isinstance(value, str) else value
        if not isinstance(keys, list | tuple):
            return keys
        keys = [key.strip() if isinstance(key, str) else key for key in keys]
        if not all(keys):
            raise ValueError("holds an empty key; is a variable unset?")
        if not all(VISIBLE.fullmatch(key) for key in keys if isinstance(key, str)):
            raise ValueError("holds a key with a space or a character other than ASCII, which no header can carry")
        return keys

    @field_validator("store", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, Path) else value

    @model_validator(mode="after")
    def _has_a_database(self) -> Settings:
        if "://" in self.store and not self.database:
            raise ValueError(f"store = {self.store!r} is no folder that could hold a database; give --database as well")
        return self

    @field_validator("unit_header")
    @classmethod
    def _lower(cls, value: str) -> str:
        value = value.lower()
        if value and not _HEADER.fullmatch(value):
            raise ValueError("is no name of a header; use letters, digits, '-' and '_'")
        if value in _SECRET_HEADERS:
            raise ValueError("carries a secret; name a header that carries a user")
        return value

    @field_validator("webhook")
    @classmethod
    def _is_web(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        try:
            parts = urlsplit(url)
            web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # the message may show the URL
            web = False
        if url and not (web and VISIBLE.fullmatch(url)):
            raise ValueError("is no URL that begins with http:// or https:// and a host")
        return value

    @property
    def database_url(self) -> str:
        """The database's URL, the default filled in."""
        return self.database or f"sqlite:///{Path(self.store) / 'excise.db'}"


def parse(**given: object) -> Settings:
    """Read the environment, overlaid with what the command line gave (`None` means not given).

    Without a key of ours `VLLM_API_KEY` counts as one.

    Raises:
        SettingsError: a value is bad, with the setting's name and value; or a variable that was to close the server is
            empty or misspelt.
    """
    _check_names()
    values = {key: value for key, value in given.items() if value is not None}
    settings = _read(values)
    if not (settings.api_keys or settings.api_key_file):
        if key := os.environ.get(VLLM_KEY):
            settings = _read({**values, "api_keys": (key,)}, named={"api_keys": VLLM_KEY})
        else:
            _check_empty(_CLOSES[:3])
    if "open_probes" not in values:
        _check_empty(_CLOSES[3:4])
    if "console" not in values:
        _check_empty(_CLOSES[4:])
    return settings


def _read(values: dict[str, Any], named: dict[str, str] | None = None) -> Settings:
    """`named`: settings that the operator knows by another name."""
    try:
        return Settings(**values)
    except ValidationError as error:
        lines = [f"{_name(e, named or {})} = {_printable_value(e)}: {e['msg']}" for e in error.errors()]
        raise SettingsError("bad setting: " + "; ".join(lines)) from None


def _check_names() -> None:
    """Refuse variables that are meant for a setting and miss it: what they were to close would stay open."""
    known = [f"EXCISE_{name.upper()}" for name in Settings.model_fields]
    for variable in os.environ:
        name = variable.upper()
        if name.startswith("EXCISE_") and name not in known and os.environ[variable]:
            suggestions = difflib.get_close_matches(name, known, 1, _ALIKE)
            if suggestions or _KEY_NAMED.fullmatch(name):
                meant = f"; did you mean {suggestions[0]}?" if suggestions else ""
                raise SettingsError(f"bad setting: {variable} is no variable of Excise{meant}")


def _check_empty(variables: tuple[str, ...]) -> None:
    for variable in variables:
        content = next((value for name, value in os.environ.items() if name.upper() == variable), None)
        if content == "":
            raise SettingsError(
                f"bad setting: {variable} is set and empty, which would leave the server open; "
                "fill it in, or unset it if that is what you want"
            )


def _name(error: Any, named: dict[str, str]) -> str:
    name = ".".join(map(str, error["loc"]))
    return named.get(name.partition(".")[0], name)


def _printable_value(error: Any) -> str:
    """The bad value, unless it may hold a secret."""
    name = str(error["loc"][0]) if error["loc"] else ""
    field = Settings.model_fields.get(name)
    harmless = field is not None and "Secret" not in str(field.annotation)
    return repr(error["input"]) if harmless else "***"
