"""`/experiments`: A/B splits between masks, their changes and their reports."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from service import bootstrap, metrics
from service.api.pagination import Limit, Offset, listed
from service.api.schemas import CHANGES, TARGET, Closed, NoText
from service.errors import ConflictError, InvalidRequestError, NotFoundError, about
from service.experiments.experiment import (
    Experiment,
    Goal,
    Guardrail,
    Metric,
    Step,
    Variant,
    begin,
    guarded,
    paused,
    resumed,
    reweighted,
    stopped,
    with_coherence,
)
from service.routing.mask_warnings import warnings
from service.routing.policy import resolve
from service.service import Service

router = APIRouter(tags=["experiments"])

Name = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Named = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
_NO_OTHERS: dict[str, Any] = {"additionalProperties": False}
"""As pydantic has it, but does not describe: no keys but those of the pattern."""
Weight = Annotated[float, Field(ge=1e-9, le=1e9, allow_inf_nan=False), NoText]


class VariantIn(Closed):
    """One arm."""

    name: Named
    mask: Annotated[str, Field(pattern=TARGET, description="`base` or a mask; pinned to the version it is now")]
    weight: Annotated[float, Field(ge=0, le=1e9, description="relative to the other variants"), NoText] = 0.0
    mirror: Annotated[
        float, Field(ge=0, le=1, description="share of the units answered a second time, unseen"), NoText
    ] = 0.0


class GuardrailIn(Closed):
    """A bound that stops the experiment when the evidence says that it was crossed."""

    metric: Metric
    direction: Annotated[
        Literal["increase", "decrease"] | None,
        Field(description="default: for the worse, that is a decrease of coherence and feedback, else an increase"),
    ] = None
    margin: Annotated[
        float,
        Field(ge=0, le=1000, description="relative for latency and length, nats a token for coherence, else absolute"),
        NoText,
    ] = 0.0

    def guardrail(self) -> Guardrail:
        """As experiments have it."""
        return Guardrail(self.metric, self.direction or Guardrail.default_direction(self.metric), self.margin)


class StepIn(Closed):
    """One step of a ramp."""

    share: Annotated[
        float,
        Field(gt=0, le=1, description="of all variants but the control together; 1 ends the experiment, it has won"),
        NoText,
    ]
    minutes: Annotated[float, Field(ge=0, le=1e6), NoText] = 0.0
    responses: Annotated[
        int, Field(ge=0, le=10**9, description="of each variant, that count in tests, in this step"), NoText
    ] = 0


class ExperimentIn(Closed):
    """A new experiment."""

    name: Named
    variants: Annotated[list[VariantIn], Field(min_length=2, max_length=16)]
    control: Annotated[Named | None, Field(description="default: the first variant")] = None
    unit: Literal["user", "request"] = "user"
    metric: Annotated[Goal, Field(description="what the decision is about; lower is better, of feedback higher")] = (
        "toxicity"
    )
    margin: Annotated[
        float, Field(gt=0, lt=1, description="smallest difference that matters; better and worse are beyond it"), NoText
    ] = 0.01
    alpha: Annotated[
        float, Field(ge=1e-6, le=0.5, description="chance to be misled, however often you look"), NoText
    ] = 0.05
    guardrails: Annotated[
        tuple[GuardrailIn, ...],
        Field(max_length=32, description="one of coherence, by 0.5 nats a token, is added unless given"),
    ] = ()
    ramp: Annotated[tuple[StepIn, ...], Field(max_length=32)] = ()


class ExperimentChange(Closed):
    """A change, made on `revision`."""

    revision: Annotated[int, Field(ge=1, le=2**31 - 1), NoText]
    weights: Annotated[dict[Named, Weight], Field(max_length=16, json_schema_extra=_NO_OTHERS)] | None = None
    status: Literal["running", "paused"] | None = None
    guardrails: Annotated[list[GuardrailIn] | None, Field(max_length=32)] = None


class Stop(Closed):
    """How an experiment ends."""

    winner: Annotated[Named | None, Field(description="the variant that everybody gets from now on")] = None
    revision: Annotated[int, Field(ge=1, le=2**31 - 1), NoText] | None = None


class ExperimentList(BaseModel):
    """A page of experiments."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    total: int


def _out(experiment: Experiment) -> dict[str, Any]:
    """With the warnings of its masks; of one that was stopped, of the mask that everybody gets."""
    shares = experiment.shares[-1] if experiment.status == "running" else {}
    named = [variant.mask for variant in experiment.variants]
    said = warnings(bootstrap.current().policy, *([experiment.fallback] if experiment.status == "stopped" else named))
    rest = {"epoch": experiment.epoch, "share": shares, "warnings": said}
    return {"object": "experiment", **experiment.document(), **rest}


def _known(name: str) -> Experiment:
    experiment = bootstrap.current().policy.experiments.get(name)
    if experiment is None:
        raise NotFoundError(
            f"there is no experiment {name!r}; GET /experiments lists them", code="experiment_not_found", param="name"
        )
    return experiment


def _guardrails(service: Service, given: Sequence[GuardrailIn]) -> tuple[Guardrail, ...]:
    """Those given, and the one against gibberish where coherence is known here."""
    guardrails = tuple(one.guardrail() for one in given)
    if service.intake.judges:
        return with_coherence(guardrails)
    if any(guardrail.metric == "coherence" for guardrail in guardrails):
        raise ConflictError(
            "this server judges no coherence, so it would never be known; start it with a --coherence-rate over 0",
            code="not_scored",
            param="guardrails",
        )
    return guardrails


def _check_scored(service: Service, body: ExperimentIn) -> None:
    """Refuse to wait for what is never measured."""
    heard = {"toxicity", "repetition", "refusal"} & {body.metric, *(guardrail.metric for guardrail in body.guardrails)}
    if heard and not service.intake.scores:
        raise ConflictError(
            f"this server scores no responses, so {', '.join(sorted(heard))} would never be known; start it with a "
            "--scorer and a --scoring-rate over 0",
            code="not_scored",
            param="metric",
        )


@router.post("/experiments", status_code=201, responses=CHANGES)
async def create(body: ExperimentIn) -> dict[str, Any]:
    """Make an experiment. It gets traffic once the default route leads to it: `experiment:NAME`."""
    service = bootstrap.current()
    if service.capabilities.baked:
        raise ConflictError("this server was loaded with one mask and serves nothing else", code="mask_not_usable")
    _check_scored(service, body)
    variants = []
    for place, given in enumerate(body.variants):
        with about(f"variants[{place}].mask"):
            choice = resolve(service.policy, given.mask)  # an alias may move later; a variant must not
            service.capabilities.check(choice)
        variants.append(Variant(given.name, choice.label, given.weight, given.mirror))
    experiment = Experiment(
        name=body.name,
        variants=tuple(variants),
        control=body.control or variants[0].name,
        unit=body.unit,
        metric=body.metric,
        margin=body.margin,
        alpha=body.alpha,
        guardrails=_guardrails(service, body.guardrails),
        ramp=tuple(Step(**one.model_dump()) for one in body.ramp),
    )
    return _out(await service.administer(service.state.create, begin(experiment, service.clock())))


@router.get("/experiments", response_model=ExperimentList, responses=CHANGES)
def list_experiments(offset: Offset = 0, limit: Limit = 100) -> Response:
    """Experiments by name, a page at a time."""
    known = list(bootstrap.current().policy.experiments.values())
    return listed(map(_out, known[offset : offset + limit]), total=len(known))


@router.get("/experiments/{name}", responses=CHANGES)
async def show(name: Name) -> dict[str, Any]:
    """One experiment as it stands."""
    return _out(_known(name))


@router.patch("/experiments/{name}", responses=CHANGES)
async def change(name: Name, body: ExperimentChange) -> dict[str, Any]:
    """Change weights or guardrails, pause or resume. 409 if somebody else changed it since `revision`."""
    service = bootstrap.current()

    def edit(experiment: Experiment) -> Experiment:
        if body.guardrails is not None:
            experiment = guarded(experiment, _guardrails(service, body.guardrails))
        if body.weights is not None:
            experiment = reweighted(experiment, body.weights, service.clock())
        if body.status == "paused":
            experiment = paused(experiment)
        elif body.status == "running":
            experiment = resumed(experiment, service.clock())
        return experiment

    _known(name)
    if body.weights is None and body.status is None and body.guardrails is None:
        raise InvalidRequestError("nothing to change: give weights, status or guardrails", code="nothing_to_change")
    return _out(
        await service.administer(service.state.change, name, edit, action="change experiment", revision=body.revision)
    )


@router.post("/experiments/{name}/stop", responses=CHANGES)
async def stop(name: Name, body: Stop | None = None) -> dict[str, Any]:
    """Stop it for good. The default route, if it leads here, goes on to the winner's mask, or the control's."""
    service, wanted = bootstrap.current(), body or Stop()
    reason = f"by an operator, winner {wanted.winner}" if wanted.winner else "by an operator"
    after = await service.administer(
        service.state.change,
        name,
        lambda experiment: stopped(experiment, reason, wanted.winner),
        action="stop experiment",
        revision=wanted.revision,
    )
    metrics.STOPPED.labels(name, "operator").inc()
    return _out(after)


@router.delete("/experiments/{name}", status_code=204, responses=CHANGES)
async def remove(name: Name) -> Response:
    """Delete a stopped experiment and its outcomes."""
    await bootstrap.current().remove(name)
    return Response(status_code=204)


@router.get(
    "/experiments/{name}/report",
    response_model=None,
    responses={200: {"content": {"text/html": {}, "image/png": {}}}, **CHANGES},
)
async def show_report(name: Name, format: Annotated[Literal["json", "html", "png"], Query()] = "json") -> Response:
    """What the outcomes say so far, of all replicas. Looking often costs nothing and misleads nobody."""
    service, experiment = bootstrap.current(), _known(name)
    measured = await asyncio.to_thread(service.registry.measured, {variant.mask for variant in experiment.variants})
    tallies = await service.tallies(experiment)
    document = await service.reports.document(experiment, tallies, measured, service.database)
    if format == "html":
        return Response(await service.reports.drawn(document, "html"), media_type="text/html; charset=utf-8")
    if format == "png":
        return Response(await service.reports.drawn(document, "png"), media_type="image/png")
    return JSONResponse(document)
