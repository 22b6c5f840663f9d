"""The JSON of our routes. Bad input is refused here, with the field's name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service import timestamps
from service.storage.registry import Record

TARGET = r"^[a-z0-9][a-z0-9._-]{0,63}(@([1-9][0-9]{0,8}|[a-z][a-z0-9._-]{0,63}))?$"
"""``base``, a mask's name, ``name@version`` or ``name@alias``."""


def _no_text(value: object) -> object:
    if isinstance(value, str | bool):
        raise ValueError("must be a number, not text or a truth value")
    return value


NoText = BeforeValidator(_no_text)
"""Of a number, as JSON Schema has it: 2 and 2.0, not "2". It comes after the bounds, or they are not described."""


Moment = Annotated[str, BeforeValidator(timestamps.iso_text), Field(description="ISO 8601, UTC")]
"""Kept as seconds since 1970, sent as text."""


class Closed(BaseModel):
    """A body that takes the fields it names and no others."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class MaskOut(BaseModel):
    """A registered mask."""

    object: Literal["mask"] = "mask"
    name: str
    version: int
    digest: str
    size: int
    registered_at: str
    model: str = Field(description="send this as `model` to be answered under this mask")
    granularity: str
    counts: dict[str, int]
    dampened: int = Field(0, description="how many of these are dampened to 1/4 or 1/2, not cut")
    rank: int | None = Field(description="of its single weights' factors per request; null: they can only be baked in")
    base: dict[str, str]
    created_at: str
    made: dict[str, Any]
    measured: dict[str, Any]
    warnings: list[str] = Field(description="what speaks against serving it, by its own measurements; often empty")

    @classmethod
    def of(cls, record: Record, model: str) -> MaskOut:
        """``model`` is the served model's name."""
        return cls(
            name=record.name,
            version=record.version,
            digest=record.digest,
            size=record.size,
            registered_at=record.registered_at,
            model=f"{model}:{record.name}@{record.version}",
            warnings=list(record.warnings),
            **record.description,
        )


class MaskList(BaseModel):
    """A page of masks."""

    object: Literal["list"] = "list"
    data: list[MaskOut]
    total: int


class RouteTo(Closed):
    """Where the default route is to lead."""

    target: Annotated[str, Field(pattern=TARGET + r"|^experiment:[a-z0-9][a-z0-9._-]{0,63}$")]


class RouteOut(BaseModel):
    """The default route in force: who answers ``model`` = NAME."""

    object: Literal["route"] = "route"
    model: str
    target: str
    warnings: list[str] = Field(
        description="what the masks that it leads to say against themselves, each after its label"
    )


class AliasTo(Closed):
    """Where an alias is to point."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1), NoText]


class AliasOut(BaseModel):
    """An alias."""

    object: Literal["alias"] = "alias"
    mask: str
    alias: str
    version: int
    model: str = Field(description="send this as `model` to be answered under it")
    warnings: list[str] = Field(description="what the mask says against itself, each after its label")


class AliasList(BaseModel):
    """A page of the aliases of a mask."""

    object: Literal["list"] = "list"
    data: list[AliasOut]
    total: int


class AuditOut(BaseModel):
    """One change."""

    id: int
    at: Moment
    who: str
    action: str
    subject: str
    before: Any = None
    after: Any = None
    reason: str | None = None


class AuditList(BaseModel):
    """Changes, newest first."""

    object: Literal["list"] = "list"
    data: list[AuditOut]


Label = Literal["confirmed", "false alarm", "unsure"]
"""Of a flagged response: it does show what it was flagged for, it does not, or it is hard to say."""


class FlaggedOut(BaseModel):
    """A toxic response that was kept for review, redacted."""

    id: int
    at: Moment
    mask: str
    experiment: str | None = None
    variant: str | None = None
    score: float
    text: str
    label: Label | None = Field(description="what a person said of it; null: nothing yet")


class LabelIn(Closed):
    """What a person thinks of a flagged response."""

    label: Annotated[Label | None, Field(description="null takes it back")]


class LabelOut(BaseModel):
    """What was noted."""

    object: Literal["label"] = "label"
    id: int
    label: Label | None


class FlaggedList(BaseModel):
    """Kept responses, newest first."""

    object: Literal["list"] = "list"
    data: list[FlaggedOut]


class Deleted(BaseModel):
    """What was deleted."""

    object: Literal["deleted"] = "deleted"
    deleted: int = Field(description="how many there were")


class ErrorBody(BaseModel):
    """What went wrong, where, and how to mend it."""

    message: str
    type: str
    code: str | int | None
    param: str | None


class ErrorOut(BaseModel):
    """OpenAI's error shape."""

    error: ErrorBody


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Of a route, for its description: 400, 401 and ``statuses`` in OpenAI's shape."""
    return {status: {"model": ErrorOut} for status in (400, 401, *statuses)}


CHANGES = errors(403, 404, 409, 413, 429, 503)
"""What a call that changes something may answer."""
