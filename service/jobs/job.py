"""Jobs: what one is, which states it goes through, and its JSON. Frozen values and pure functions.

    improve:     queued → correcting → waiting → canary → waiting → promoted
                                    ╰→ approved ─╯    ╰──────────────╯
    regression:  queued → measuring → done

A worker, another process, takes a job by a lease (`correcting`, `measuring`) and hands in what it made; the server
does the rest. `waiting` is for a person's approval, before traffic or before promotion; `approved` for the route to
be free. From every state that is not an end a job may become `failed` or `cancelled`, from `canary` on
`rolled back`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from service.errors import ConflictError
from service.experiments.experiment import Guardrail

Kind = Literal["improve", "regression"]
Test = Literal["toxicity", "repetition"]
Approval = Literal["before-traffic", "before-promotion", "none"]
State = Literal[
    "queued",
    "correcting",
    "measuring",
    "waiting",
    "approved",
    "canary",
    "promoted",
    "rolled back",
    "done",
    "failed",
    "cancelled",
]
STATES: tuple[State, ...] = get_args(State)
OVER = ("promoted", "rolled back", "done", "failed", "cancelled")
"""States that nothing follows."""
LEASED = ("correcting", "measuring")
"""States in which a worker has the job."""

LEASE = 60.0
"""Seconds that a worker has a job for without a word from it; then another may take it."""
CANDIDATE = "candidate"
"""The alias that a new mask gets."""


@dataclass(frozen=True)
class Spec:
    """What is asked for.

    Attributes:
        mask: of `improve` the name of the mask to make; of `regression` the version to measure, `name@version`.
        test: what the flagged responses show, and the mask is to be against.
        increase: of perplexity, relative, that the correction may cost.
        minimum: distinct flagged prompts without which nothing is made.
        raw: prompts are openings that the model goes on with, not messages of a chat.
        share: of the users, who get the mask in the canary. margin: smallest difference that matters there, absolute.
        hours: after which a canary that nothing is known of is rolled back.
    """

    mask: str
    test: Test = "toxicity"
    increase: float = 0.01
    minimum: int = 50
    raw: bool = False
    approval: Approval = "before-traffic"
    share: float = 0.1
    margin: float = 0.01
    hours: float = 168.0
    guardrails: tuple[Guardrail, ...] = ()


@dataclass(frozen=True)
class Lease:
    """Which worker has a job, and until when, seconds since 1970."""

    holder: str
    until: float


@dataclass(frozen=True)
class Job:
    """A job as it stands; replaced as a whole when anything changes."""

    id: str
    kind: Kind
    spec: Spec
    state: State = "queued"
    waiting_for: Literal["", "traffic", "promotion"] = ""
    reason: str = ""
    """Why it is in this state."""
    made: Mapping[str, Any] = field(default_factory=dict)
    """What its steps produced: `prompts`, `mask`, `measured`, `experiment`, `verdict`, `holds`."""
    lease: Lease | None = None
    created_at: float = 0.0
    changed_at: float = 0.0
    """When its state last changed."""
    revision: int = 1
    """Raised by every change; a change is made on the one that was read."""

    @property
    def over(self) -> bool:
        """Whether nothing follows."""
        return self.state in OVER

    @property
    def experiment(self) -> str:
        """The name of its canary, given before there is one, so that no second is ever made."""
        return f"job-{self.id}"

    def free(self, now: float, worker: str = "") -> bool:
        """Whether a worker may take it: queued, or its lease ran out, or is this worker's own from before a crash."""
        if self.state == "queued":
            return True
        return self.state in LEASED and (self.lease is None or self.lease.until <= now or self.lease.holder == worker)

    def document(self) -> dict[str, Any]:
        """As JSON, to be stored."""
        return asdict(self)

    @staticmethod
    def of(document: Mapping[str, Any]) -> Job:
        """Back from `document`."""
        spec = dict(document["spec"])
        spec["guardrails"] = tuple(Guardrail(**one) for one in spec["guardrails"])
        lease = Lease(**document["lease"]) if document["lease"] else None
        return Job(**{**document, "spec": Spec(**spec), "lease": lease})


def claimed(job: Job, worker: str, now: float) -> Job:
    """In the hands of this worker for `LEASE` seconds from now, again or anew. Raises `ConflictError`."""
    if not job.free(now, worker):
        has = f"the worker {job.lease.holder!r} has it" if job.lease else f"it is {job.state}"
        raise ConflictError(f"the job {job.id!r} cannot be taken: {has}", code="job_not_free")
    state: State = "correcting" if job.kind == "improve" else "measuring"
    return replace(_moved(job, state, now), lease=Lease(worker, now + LEASE))


def corrected(job: Job, worker: str, mask: str, made: Mapping[str, Any], now: float) -> Job:
    """The worker made `mask` (`name@version`). Raises `ConflictError` unless it has the job."""
    _check_held(job, worker)
    corrected_job = replace(job, lease=None, made={**job.made, **made, "mask": mask})
    if job.spec.approval == "before-traffic":
        return _moved(corrected_job, "waiting", now, "a person's approval is needed before users see it", "traffic")
    return _moved(corrected_job, "approved", now, "no approval is needed before traffic")


def measured(job: Job, worker: str, made: Mapping[str, Any], holds: bool, why: str, now: float) -> Job:
    """The worker measured the mask again. Raises `ConflictError` unless it has the job."""
    _check_held(job, worker)
    return _moved(replace(job, lease=None, made={**job.made, **made, "holds": holds}), "done", now, why)


def failed(job: Job, reason: str, now: float, worker: str | None = None) -> Job:
    """It cannot be done. Raises `ConflictError` where it is over, or not this worker's."""
    if worker is not None:
        _check_held(job, worker)
    _check_going(job)
    return _moved(replace(job, lease=None), "failed", now, reason)


def cancelled(job: Job, now: float) -> Job:
    """An operator does not want it any more. Raises `ConflictError` where it is over."""
    _check_going(job)
    return _moved(replace(job, lease=None), "cancelled", now, "by an operator")


def approved(job: Job, now: float) -> Job:
    """A person says yes: to traffic, or to promotion. Raises `ConflictError` where nobody was asked."""
    if job.state != "waiting":
        raise ConflictError(
            f"the job {job.id!r} is {job.state} and waits for nobody's approval", code="job_not_waiting"
        )
    if job.waiting_for == "traffic":
        return _moved(job, "approved", now, "a person said yes to traffic")
    return _moved(job, "promoted", now, f"a person said yes: {job.reason}")


def begun(job: Job, now: float) -> Job:
    """Its canary gets traffic. Raises `ConflictError` unless it was approved."""
    if job.state != "approved":
        raise ConflictError(f"the job {job.id!r} is {job.state}, not approved", code="job_not_approved")
    return _moved(replace(job, made={**job.made, "experiment": job.experiment}), "canary", now, "")


def judged(job: Job, verdict: str, why: str, now: float) -> Job:
    """The canary found the mask `better`, or not. Raises `ConflictError` where it has no canary."""
    if job.state != "canary" and not (job.state == "waiting" and job.waiting_for == "promotion"):
        raise ConflictError(f"the job {job.id!r} is {job.state} and has no canary", code="job_not_canary")
    judged_job = replace(job, made={**job.made, "verdict": verdict})
    if verdict != "better":
        return _moved(judged_job, "rolled back", now, why)
    if job.spec.approval == "before-promotion":
        return _moved(judged_job, "waiting", now, why, "promotion")
    return _moved(judged_job, "promoted", now, why)


def settled(job: Job, promoted: bool, why: str, now: float) -> Job:
    """A person ended its canary by hand. Raises `ConflictError` where it is over."""
    _check_going(job)
    return _moved(job, "promoted" if promoted else "rolled back", now, why)


def _moved(
    job: Job, state: State, now: float, reason: str = "", waiting_for: Literal["", "traffic", "promotion"] = ""
) -> Job:
    if (job.state, job.reason, job.waiting_for) == (state, reason, waiting_for):
        return job
    return replace(job, state=state, reason=reason, waiting_for=waiting_for, changed_at=now)


def _check_held(job: Job, worker: str) -> None:
    if job.state not in LEASED or job.lease is None or job.lease.holder != worker:
        raise ConflictError(
            f"the job {job.id!r} is {job.state} and not in the hands of the worker {worker!r}; claim it first",
            code="job_not_held",
        )


def _check_going(job: Job) -> None:
    if job.over:
        raise ConflictError(f"the job {job.id!r} is over: {job.state} ({job.reason})", code="job_over")
