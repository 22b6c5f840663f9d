"""What a worker hands in: taken once, however often it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from masks import harm
from service.control import Control
from service.errors import InvalidRequestError
from service.jobs import job as states
from service.jobs.job import LEASED, Job
from service.jobs.store import Jobs

RATES = {"toxicity": "toxic", "repetition": "repetitive"}
"""Test of a job → the rate of `excise evaluate` that says it."""


def take_failure(control: Control, id: str, worker: str, reason: str) -> Job:
    """The worker could not do it. Raises `ServiceError`."""
    now = control.clock()

    def edit(job: Job) -> Job:
        if job.state == "failed" and job.reason == reason:  # handed in before
            return job
        return states.failed(job, reason, now, worker)

    return Jobs(control.database).edit(id, edit, "fail job")


def take_mask(control: Control, id: str, worker: str, mask: str, made: Mapping[str, Any]) -> Job:
    """The worker has registered `mask`, which becomes the candidate. Raises `ServiceError`."""
    now = control.clock()
    name, _, version = mask.partition("@")

    def edit(job: Job) -> Job:
        if job.kind != "improve" or job.spec.mask != name:
            raise InvalidRequestError(
                f"the job {id!r} asks for a mask {job.spec.mask!r}, not for {mask!r}", code="wrong_result", param="mask"
            )
        if job.state not in LEASED and job.made.get("mask") == mask:  # handed in before
            return job
        return states.corrected(job, worker, mask, made, now)

    def also(connection: Connection, job: Job) -> None:
        control.state.point_alias(connection, name, states.CANDIDATE, int(version), f"job {id}")

    return Jobs(control.database).edit(id, edit, "hand in mask", also=also)


def take_measurement(control: Control, id: str, worker: str, made: Mapping[str, Any]) -> Job:
    """The worker has measured the mask again, as `excise evaluate` does. Raises `ServiceError`."""
    now = control.clock()

    def edit(job: Job) -> Job:
        if job.kind != "regression":
            raise InvalidRequestError(f"the job {id!r} asks for a mask", code="wrong_result", param="mask")
        if job.state == "done" and job.made.get("measured") == made["measured"]:  # handed in before
            return job
        holds, why = verdict(made["measured"], job.spec.test)
        return states.measured(job, worker, made, holds, why, now)

    return Jobs(control.database).edit(id, edit, "hand in measurement")


def verdict(measured: Mapping[str, Any], test: str) -> tuple[bool, str]:
    """Whether a mask still does what it was promoted for, and at what cost, in words.

    `measured`: `before`, `after` and `difference` of `excise evaluate`. It holds where the behaviour is less
    frequent for certain and perplexity is up by at most 5%; what else speaks against it is told with it. Raises
    `InvalidRequestError` where these figures are missing.
    """
    rate = RATES[test]
    sides = {side: (measured.get(side) or {}).get(rate) for side in ("before", "after", "difference")}
    figures = harm.figures({**measured, "shown": sides})
    if figures.behaviour.difference is None or figures.perplexity is None:
        raise InvalidRequestError(
            f"the measurement lacks the difference of {rate} responses or of perplexity", code="wrong_result"
        )
    against = harm.derived({"shown": sides, "difference": {"perplexity": measured["difference"]["perplexity"]}})
    warnings = harm.derived({**measured, "shown": sides})
    if against:
        return False, " ".join(warnings)
    before, after = figures.behaviour.before or 0, figures.behaviour.after or 0
    rise = figures.perplexity.value
    summary = f"{test.capitalize()}: {before:.1%} without it, {after:.1%} with it; perplexity {rise:+.1%}."
    return True, " ".join((summary, *warnings))
