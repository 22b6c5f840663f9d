"""`/jobs`: better masks from flagged traffic, and promoted masks measured again. The work is done by workers."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from service import bootstrap
from service.api.experiments import GuardrailIn
from service.api.pagination import Limit, Offset, listed
from service.api.schemas import CHANGES, TARGET, Closed, Moment, NoText, errors
from service.errors import ConflictError, InvalidRequestError, about
from service.experiments.experiment import Guardrail, Rate
from service.jobs import job as states
from service.jobs import results
from service.jobs.canary import end
from service.jobs.job import LEASE, Approval, Job, Kind, Spec, State, Test
from service.jobs.prompts import candidates
from service.jobs.store import Jobs
from service.routing.policy import resolve

router = APIRouter(tags=["jobs"])

_ID = r"^[a-z0-9][a-z0-9._-]{0,58}$"
"""Its canary is called `job-ID`."""
Id = Annotated[str, Path(pattern=_ID)]
Worker = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="a name of its own, kept")]
_READ = errors(404, 503)

_ALLOWED: dict[Rate, float] = {"error": 0.02, "refusal": 0.05, "toxicity": 0.02, "repetition": 0.02}
"""By how much each may rise in a canary, unless its job says otherwise; coherence is guarded as ever."""


class JobIn(Closed):
    """A new job."""

    id: Annotated[
        str | None, Field(pattern=_ID, description="default: made here; the same job again is found again")
    ] = None
    kind: Annotated[Kind, Field(description="make a mask from flagged traffic, or measure a mask again")] = "improve"
    mask: Annotated[
        str,
        Field(
            pattern=TARGET,
            description="name of the mask to make; the version to be measured, as `name@2` or `name@production`",
        ),
    ]
    test: Annotated[Test, Field(description="what the mask is against, and what the canary decides about")] = "toxicity"
    increase: Annotated[
        float, Field(gt=0, lt=1, description="of perplexity, relative, that the correction may cost"), NoText
    ] = 0.01
    minimum: Annotated[
        int, Field(ge=8, le=100_000, description="distinct flagged prompts without which nothing is made"), NoText
    ] = 50
    raw: Annotated[bool, Field(description="prompts are openings to be gone on with, not messages of a chat")] = False
    approval: Annotated[Approval, Field(description="when a person must say yes (POST /jobs/{id}/approve)")] = (
        "before-traffic"
    )
    share: Annotated[
        float, Field(ge=0.001, le=0.9, description="of the users, who get the mask in the canary"), NoText
    ] = 0.1
    margin: Annotated[float, Field(gt=0, lt=1, description="smallest difference that matters there"), NoText] = 0.01
    hours: Annotated[
        float, Field(gt=0, le=8760, description="after which a canary that nothing is known of is rolled back"), NoText
    ] = 168.0
    guardrails: Annotated[
        tuple[GuardrailIn, ...] | None,
        Field(
            max_length=32, description="of the canary; default: errors, refusals, and the other rates it is not about"
        ),
    ] = None


class ClaimIn(Closed):
    """Who takes a job."""

    worker: Worker


class ResultIn(Closed):
    """What a worker made of a job: a mask, a measurement, or a failure."""

    worker: Worker
    mask: Annotated[str | None, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}@[1-9][0-9]{0,8}$")] = None
    measured: Annotated[dict[str, Any], Field(default_factory=dict, description="as `excise evaluate --json` has it")]
    prompts: Annotated[int | None, Field(ge=0, description="how many there were")] = None
    failed: Annotated[str | None, Field(min_length=1, max_length=4000, description="why there is no result")] = None


class LeaseOut(BaseModel):
    """Which worker has a job, and until when."""

    holder: str
    until: Moment


class JobOut(BaseModel):
    """A job as it stands."""

    object: Literal["job"] = "job"
    id: str
    kind: Kind
    state: State
    waiting_for: Literal["", "traffic", "promotion"] = Field(description="what a person is to say yes to")
    reason: str = Field(description="why it is in this state")
    spec: dict[str, Any]
    made: dict[str, Any] = Field(description="what its steps produced: mask, measured, experiment, verdict, holds")
    lease: LeaseOut | None
    lease_seconds: float = Field(LEASE, description="for which a worker has it without a word")
    free: bool = Field(description="whether any worker may take it")
    created_at: Moment
    changed_at: Moment
    revision: int


class JobList(BaseModel):
    """A page of jobs, the newest first."""

    object: Literal["list"] = "list"
    data: list[JobOut]
    total: int


class PromptOut(BaseModel):
    """A prompt whose response was flagged; both redacted."""

    prompt: str
    response: str
    mask: str
    score: float
    label: str | None
    at: Moment


class PromptList(BaseModel):
    """Confirmed ones first, then the newest; false alarms are left out."""

    object: Literal["list"] = "list"
    data: list[PromptOut]


def _out(job: Job) -> JobOut:
    document = job.document()
    return JobOut(**document, free=job.free(bootstrap.current().clock()))


def _jobs() -> Jobs:
    return Jobs(bootstrap.current().database)


@router.post("/jobs", status_code=201, responses={200: {"model": JobOut}, **CHANGES})
def create(body: JobIn, response: Response) -> JobOut:
    """Ask for a better mask, or for a mask to be measured again. A worker (`excise improve`) does it."""
    service = bootstrap.current()
    if body.kind == "improve":
        _check_improvable(body)
    else:
        with about("mask"):
            body.mask = resolve(service.policy, body.mask).label
    given = {key: getattr(body, key) for key in Spec.__dataclass_fields__ if key != "guardrails"}
    spec = Spec(**given, guardrails=_guardrails(body) if body.kind == "improve" else ())
    now = service.clock()
    id = body.id or f"{spec.mask.partition('@')[0][:40]}-{secrets.token_hex(4)}"
    job, new = _jobs().create(Job(id, body.kind, spec, created_at=now, changed_at=now))
    response.status_code = 201 if new else 200
    return _out(job)


def _check_improvable(body: JobIn) -> None:
    """Refuse what could never be done here."""
    service = bootstrap.current()
    if "@" in body.mask or body.mask == "base":
        raise InvalidRequestError(
            "give the name of the mask to make, without a version", code="invalid_job", param="mask"
        )
    if service.capabilities.baked:
        raise ConflictError("this server was loaded with one mask and serves nothing else", code="mask_not_usable")
    if not service.intake.scores:
        raise ConflictError(
            "this server scores no responses, so none is ever flagged; give it a --scorer", code="not_scored"
        )
    _check_kept()


def _check_kept() -> None:
    if not bootstrap.current().settings.keep_flagged:
        raise ConflictError(
            "this server keeps no flagged responses, so there are no prompts; start it with --keep-flagged",
            code="not_kept",
        )


def _guardrails(body: JobIn) -> tuple[Guardrail, ...]:
    if body.guardrails is not None:
        return tuple(one.guardrail() for one in body.guardrails)
    return tuple(Guardrail(rate, "increase", margin) for rate, margin in _ALLOWED.items() if rate != body.test)


@router.get("/jobs", response_model=JobList, responses=_READ)
def list_jobs(
    state: Annotated[State | None, Query()] = None,
    kind: Annotated[Kind | None, Query()] = None,
    offset: Offset = 0,
    limit: Limit = 100,
) -> Response:
    """Jobs, the newest first, a page at a time."""
    jobs, total = _jobs().list(state=state, kind=kind, offset=offset, limit=limit)
    return listed(map(_out, jobs), total=total)


@router.get("/jobs/{id}", responses=_READ)
def show(id: Id) -> JobOut:
    """One job as it stands."""
    return _out(_jobs().get(id))


@router.get("/jobs/{id}/prompts", response_model=PromptList, responses=CHANGES)
def prompts(id: Id, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000) -> Response:
    """What a correction is made from: distinct prompts whose responses were flagged for what the job is about."""
    job = _jobs().get(id)
    _check_kept()
    flagged_prompts = candidates(bootstrap.current().database, job.spec.test, limit)
    return listed(PromptOut(**vars(each)) for each in flagged_prompts)


@router.post("/jobs/{id}/claim", responses=CHANGES)
def claim(id: Id, body: ClaimIn) -> JobOut:
    """Take a job that is free, for `lease_seconds`; again and again while it is being done."""
    now = bootstrap.current().clock()
    return _out(_jobs().edit(id, lambda job: states.claimed(job, body.worker, now), "take job"))


@router.post("/jobs/{id}/result", responses=CHANGES)
async def result(id: Id, body: ResultIn) -> JobOut:
    """Hand in what was made. A result that was handed in before is found again."""
    service = bootstrap.current()
    made = {"measured": body.measured} | ({} if body.prompts is None else {"prompts": body.prompts})
    if body.failed is not None:
        job = await service.administer(results.take_failure, service, id, body.worker, body.failed)
    elif body.mask is not None:
        job = await service.administer(results.take_mask, service, id, body.worker, body.mask, made)
    else:
        job = await service.administer(results.take_measurement, service, id, body.worker, made)
    return _out(job)


@router.post("/jobs/{id}/approve", responses=CHANGES)
async def approve(id: Id) -> JobOut:
    """Say yes to what the job waits for: to users seeing its mask, or to all of them getting it."""
    service = bootstrap.current()
    job, now = _jobs().get(id), service.clock()
    if job.waiting_for == "promotion":
        return _out(await end(service, job, lambda each: states.approved(each, now), "approved by a person"))
    return _out(await service.administer(_jobs().edit, id, lambda each: states.approved(each, now), "approve job"))


@router.post("/jobs/{id}/cancel", responses=CHANGES)
async def cancel(id: Id) -> JobOut:
    """End a job; its canary, if that runs, ends with it, and the route goes back."""
    service = bootstrap.current()
    job, now = _jobs().get(id), service.clock()
    return _out(await end(service, job, lambda each: states.cancelled(each, now), "cancelled"))
