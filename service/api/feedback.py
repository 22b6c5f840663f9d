"""`POST /feedback`: what users say of a response, counted for the variant that gave it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service import bootstrap
from service.api.schemas import Closed, NoText, errors
from service.errors import InvalidRequestError

router = APIRouter(tags=["feedback"])

_THUMBS = {"up": 1.0, "down": -1.0}


class FeedbackIn(Closed):
    """Feedback on one response: a number, or a thumb."""

    id: Annotated[str, Field(min_length=1, max_length=1000, description="`id` of the response's body")]
    value: Annotated[
        float | None, Field(ge=-1, le=1, description="1: as good as can be, 0: neither, -1: as bad"), NoText
    ] = None
    thumb: Annotated[Literal["up", "down"] | None, Field(description="in place of `value`: 1 or -1")] = None


class FeedbackOut(BaseModel):
    """What was noted, and for whom."""

    object: Literal["feedback"] = "feedback"
    id: str
    value: float
    experiment: str
    variant: str


@router.post("/feedback", responses=errors(404, 409, 503))
async def give(body: FeedbackIn) -> FeedbackOut:
    """Say how good a response of an experiment was. Once for each response; in tests the first of each user counts."""
    if (body.value is None) == (body.thumb is None):
        raise InvalidRequestError("give either 'value' or 'thumb'", code="invalid_feedback", param="value")
    value = _THUMBS[body.thumb] if body.thumb else float(body.value or 0.0)
    service = bootstrap.current()
    answer = await asyncio.to_thread(service.intake.answers.rate, body.id, value)
    service.recorder.rated(answer, value)
    return FeedbackOut(id=body.id, value=value, experiment=answer.experiment, variant=answer.variant)
