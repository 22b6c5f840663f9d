"""The JSON of our routes. Bad input is refused here, with the field's name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.registry import Record
from service.routing import Share

Target = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,63}(@[1-9][0-9]{0,8})?$",
        description="`base`, a mask's name (its newest version), or `name@version`",
        examples=["base", "detox@1"],
    ),
]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


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
    rank: int | None = Field(description="of its single weights' factors per request; null: they can only be baked in")
    base: dict[str, str]
    created_at: str
    made: dict[str, Any]
    measured: dict[str, Any]

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
            **record.description,
        )


class MaskList(BaseModel):
    """A page of masks."""

    object: Literal["list"] = "list"
    data: list[MaskOut]
    total: int


class Arm(_Closed):
    """One arm of a split."""

    target: Target
    weight: Annotated[float, Field(gt=0, le=1e9, description="relative to the other arms")] = 1.0


class RouteTo(_Closed):
    """Everything to one target."""

    target: Target

    def shares(self) -> tuple[Share, ...]:
        """As routing takes it."""
        return (Share(self.target),)


class RouteSplit(_Closed):
    """A split by user, by weight."""

    split: Annotated[list[Arm], Field(min_length=1, max_length=64)]

    def shares(self) -> tuple[Share, ...]:
        """As routing takes it."""
        return tuple(Share(arm.target, arm.weight) for arm in self.split)


class RouteOut(BaseModel):
    """The default route in force: who answers ``model`` = NAME."""

    object: Literal["route"] = "route"
    model: str
    target: str | None = Field(description="the one target, or null for a split")
    split: list[Arm]

    @classmethod
    def of(cls, route: tuple[Share, ...], model: str) -> RouteOut:
        """``model`` is the served model's name."""
        arms = [Arm(target=share.target, weight=share.weight) for share in route]
        return cls(model=model, target=arms[0].target if len(arms) == 1 else None, split=arms)


class ErrorBody(BaseModel):
    """What went wrong, where, and how to mend it."""

    message: str
    type: str
    code: str | int | None
    param: str | None


class ErrorOut(BaseModel):
    """OpenAI's error shape."""

    error: ErrorBody
