"""Settings of the service: parsed once, frozen. From the command line, or ``EXCISE_<NAME>`` in the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MAX_RANK = 512
"""Of the factors of a mask of single weights: more would be a second model."""


class SettingsError(ValueError):
    """A setting has a bad value; the message names it."""


class Settings(BaseSettings):
    """Every setting of ``excise serve`` that is not an option of vLLM."""

    model_config = SettingsConfigDict(env_prefix="EXCISE_", frozen=True, extra="forbid")

    store: Path = Field(Path("excise-store"), description="Folder for mask files and the default database.")
    database: str = Field("", description="SQLAlchemy URL; default: SQLite in the store folder.")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="Keys for inference and reading, comma-separated; none: open."
    )
    admin_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="Keys for changing calls, comma-separated; none: those calls answer 403."
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
    scorer: str = Field("profanity", description="Toxicity scorer for responses; 'none' switches scoring off.")
    open_probes: bool = Field(True, description="/health, /ready and /metrics without a key.")
    scoring_queue: int = Field(10_000, ge=1, description="Responses that may wait for the scorer; more are dropped.")

    @field_validator("api_keys", "admin_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if value == "":  # an empty variable is an unset one
            return ()
        keys = [key.strip() for key in value.split(",")] if isinstance(value, str) else value
        if isinstance(keys, list | tuple) and not all(keys):
            raise ValueError("holds an empty key; is a variable unset?")
        return keys

    @property
    def database_url(self) -> str:
        """The database's URL, the default filled in."""
        return self.database or f"sqlite:///{self.store / 'excise.db'}"


def parse(**given: object) -> Settings:
    """Read the environment, overlaid with what the command line gave (``None`` means not given).

    Raises ``SettingsError`` with the setting's name and value.
    """
    try:
        return Settings(**{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))} = {_shown(e)}: {e['msg']}" for e in error.errors()]
        raise SettingsError("bad setting: " + "; ".join(lines)) from None


def _shown(error: Any) -> str:
    return "***" if "keys" in str(error["loc"]) else repr(error["input"])
