"""`/overview` and `/traffic`: what a reader may see of a server at a glance, for the console and for scripts."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from service import bootstrap
from service.api.access import key_of
from service.api.pagination import listed
from service.api.schemas import Moment, errors
from service.experiments.experiment import Experiment
from service.experiments.report.samples import mean, moments
from service.keys import matches
from service.storage.database import DatabaseLostError

router = APIRouter(tags=["overview"])

_MOST = 1000
"""Experiments told, the newest."""


class ExperimentBrief(BaseModel):
    """An experiment in short; its report says the rest."""

    name: str
    status: Literal["running", "paused", "stopped"]
    reason: str = Field(description="why it was stopped")
    winner: str | None
    metric: str
    control: str
    variants: dict[str, str] = Field(description="name → mask")
    share: dict[str, float] = Field(description="of the units, in force; empty unless it runs")
    step: int = Field(description="of the ramp, from 0")
    steps: int
    created_at: Moment


class Overview(BaseModel):
    """The server as a reader sees it."""

    object: Literal["overview"] = "overview"
    key: Literal["admin", "reader", "none"] = Field(description="what the call's key is; none: reading is open here")
    changes: bool = Field(description="whether anything can be changed over HTTP here, with an admin key")
    model: str
    target: str = Field(description="where the default route leads")
    before: str | None = Field(description="where a rollback of the default route would lead; null: nowhere")
    baked: str | None = Field(description="the mask that the server was loaded with: it serves nothing else")
    scores: bool = Field(description="whether responses are scored")
    judges: bool = Field(description="whether coherence is ever known")
    keeps_flagged: int = Field(description="toxic responses kept for review; 0: none")
    experiments: list[ExperimentBrief] = Field(description="the newest first")


class TrafficOut(BaseModel):
    """What one mask answered in some minutes."""

    start: Moment
    minutes: int
    mask: str
    responses: int
    scored: int
    toxic: int
    repetitive: int
    refusals: int
    truncated: int
    judged: int
    coherence: float | None = Field(description="mean, nats a token, of those judged")


class TrafficList(BaseModel):
    """By time and mask."""

    object: Literal["list"] = "list"
    data: list[TrafficOut]


def _brief(experiment: Experiment) -> ExperimentBrief:
    same = ("name", "status", "reason", "winner", "metric", "control", "step", "created_at")
    return ExperimentBrief(
        **{name: getattr(experiment, name) for name in same},
        variants={variant.name: variant.mask for variant in experiment.variants},
        share=dict(experiment.shares[-1]) if experiment.status == "running" else {},
        steps=len(experiment.ramp),
    )


@router.get("/overview", responses=errors())
def overview(request: Request) -> Overview:
    """Model, route, experiments, what the server measures, and what the key of this call may do."""
    service, key = bootstrap.current(), key_of(request.headers)
    api, admin = service.keys.api(), service.keys.admin()
    newest = sorted(service.policy.experiments.values(), key=lambda each: -each.created_at)[:_MOST]
    baked, before = service.capabilities.baked, None
    with contextlib.suppress(DatabaseLostError):  # what is known is told all the same
        before = service.state.route_before()
    return Overview(
        key="admin" if matches(key, admin) else "reader" if matches(key, api) else "none",
        changes=bool(admin),
        model=service.policy.model,
        target=service.route(),
        before=before,
        baked=baked.label if baked else None,
        scores=service.intake.scores,
        judges=service.intake.judges,
        keeps_flagged=service.settings.keep_flagged,
        experiments=[_brief(each) for each in newest],
    )


@router.get("/traffic", response_model=TrafficList, responses=errors(503))
def traffic(
    hours: Annotated[float, Query(gt=0, le=8760, allow_inf_nan=False, description="how far back")] = 24.0,
) -> Response:
    """What each mask answered over time, of all replicas, in an experiment or not: at most 48 points of each."""
    points = bootstrap.current().intake.traffic.read(hours)
    return listed(_point(each.start, each.minutes, each.variant, each.all) for each in points)


def _point(start: float, minutes: int, mask: str, sums: Any) -> TrafficOut:
    names = ("responses", "scored", "toxic", "repetitive", "refusals", "truncated", "judged")
    fields: dict[str, Any] = {"start": start} | {name: getattr(sums, name) for name in names}
    return TrafficOut(minutes=minutes, mask=mask, coherence=mean(moments(sums, "coherence")), **fields)
