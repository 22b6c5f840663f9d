"""The canary of a job: an experiment that begins after approval, is followed, and ends in promotion or roll-back.

Each step changes the job, the experiment, the route and aliases in one transaction, so that none is done by half or
twice, whichever replica does it and wherever it is killed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from sqlalchemy import Connection

from service.control import Control
from service.errors import ConflictError, NotFoundError, ServiceError
from service.experiments.experiment import Experiment, Variant, begin, stopped, with_coherence
from service.experiments.outcomes.totals import Tally
from service.experiments.report.decision import report
from service.jobs import job as states
from service.jobs.job import Job
from service.jobs.store import Edit, Jobs
from service.routing.policy import EXPERIMENT, PRODUCTION, resolve
from service.storage.database import DatabaseLostError

_log = logging.getLogger(__name__)

CONTROL, CANDIDATE = "control", "candidate"
"""Names of the variants."""


class Canaries:
    """Moves the canaries of all jobs, on each replica; what one has done the others find done."""

    def __init__(self, control: Control, prepare: Callable[[str], Awaitable[None]], judges: Callable[[], bool]) -> None:
        """`prepare` makes a mask resident; `judges`: whether coherence is ever known here."""
        self._control, self._prepare, self._judges = control, prepare, judges
        self._jobs = Jobs(control.database)
        self._seen: dict[str, tuple[Experiment, list[Tally]]] = {}

    async def conduct(self) -> None:
        """Look at every job once. Raises `DatabaseLostError`."""
        jobs = [job for job in await asyncio.to_thread(self._jobs.going) if job.kind == "improve"]
        if jobs:
            await self._control.follow()  # what the jobs say of experiments must not be ahead of what is known of them
        self._seen = {name: seen for name, seen in self._seen.items() if name in {job.experiment for job in jobs}}
        for job in jobs:
            try:
                if job.state == "approved":
                    await self._begin(job)
                elif job.state == "canary" or job.waiting_for == "promotion":
                    await self._watch(job)
            except DatabaseLostError:
                raise
            except ServiceError as error:  # another replica was first, or the engine is busy: it is looked at again
                _log.info("job %s: %s", job.id, error.message)

    async def _begin(self, job: Job) -> None:
        """Make the experiment and lead the route to it, or say what is in the way."""
        control, mask, now = self._control, str(job.made["mask"]), self._control.clock()
        route = control.policy.route
        if route.startswith(EXPERIMENT):
            await self._note(job, f"the default route leads to {route}; the canary begins once that is over")
            return
        try:
            await self._prepare(mask)
        except (ConflictError, NotFoundError) as error:
            await asyncio.to_thread(self._fail, job, f"{mask} cannot be shown to some users only: {error.message}")
            return
        experiment = begin(
            Experiment(
                name=job.experiment,
                variants=(
                    Variant(CONTROL, resolve(control.policy, route).label, 1 - job.spec.share),
                    Variant(CANDIDATE, mask, job.spec.share),
                ),
                control=CONTROL,
                metric=job.spec.test,
                margin=job.spec.margin,
                guardrails=with_coherence(job.spec.guardrails) if self._judges() else job.spec.guardrails,
            ),
            now,
        )

        def also(connection: Connection) -> None:
            self._move(connection, job, lambda current: states.begun(current, now), "begin canary")
            control.state.lead_to(connection, experiment, route, f"canary of job {job.id}")

        try:
            await control.administer(control.state.create, experiment, also=also)
        except ConflictError as error:
            if error.code in ("experiment_exists", "too_many_experiments"):
                await self._note(job, f"the canary cannot begin: {error.message}")
            else:
                raise

    async def _watch(self, job: Job) -> None:
        """Follow the verdict."""
        control, now = self._control, self._control.clock()
        experiment = control.policy.experiments.get(job.experiment)
        if experiment is None:
            await self._settle(job, False, "its experiment was deleted")
        elif experiment.status == "stopped":
            won = experiment.winner == CANDIDATE
            await self._settle(job, won, experiment.reason)
        elif experiment.status == "running" and job.state == "canary":
            tallies = await control.tallies(experiment)
            late = now >= job.changed_at + 3600 * job.spec.hours
            if (experiment, tallies) == self._seen.get(job.experiment) and not late:
                return
            current_report = await asyncio.to_thread(report, experiment, tallies, now)
            self._seen[job.experiment] = experiment, tallies
            verdict, why = str(current_report["decision"]), str(current_report["why"])
            if verdict == "keep watching":
                if late:
                    await end(control, job, lambda each: states.judged(each, verdict, why, now), f"undecided: {why}")
            elif verdict == "better" and job.spec.approval == "before-promotion":
                edit = self._jobs.edit
                await asyncio.to_thread(edit, job.id, lambda each: states.judged(each, verdict, why, now), "ask")
            else:
                await end(control, job, lambda each: states.judged(each, verdict, why, now), f"{verdict}: {why}")

    async def _settle(self, job: Job, won: bool, why: str) -> None:
        """The experiment is over: by its guardrail, or by an operator, who is believed."""

        def also(connection: Connection, after: Job) -> None:
            if won:
                _point_production(self._control, connection, after)

        now, edit = self._control.clock(), self._jobs.edit
        action = "promote" if won else "roll back job"
        change = self._control.administer
        await change(edit, job.id, lambda each: states.settled(each, won, why, now), action, also=also)

    def _move(self, connection: Connection, job: Job, edit: Edit, action: str) -> None:
        if self._jobs.move(connection, job.id, edit, action) is None:
            raise ConflictError(f"the job {job.id!r} was changed meanwhile", code="changed_since")

    async def _note(self, job: Job, reason: str) -> None:
        """Say in the job what it waits for."""
        if job.reason != reason:
            await asyncio.to_thread(self._jobs.edit, job.id, lambda each: replace(each, reason=reason), "note")

    def _fail(self, job: Job, reason: str) -> None:
        now = self._control.clock()
        self._jobs.edit(job.id, lambda each: states.failed(each, reason, now), "fail job")


async def end(control: Control, job: Job, edit: Edit, why: str) -> Job:
    """End a job together with its canary, if that runs: what `edit` makes of the job says who wins.

    The route goes to the winner's mask, or back to the control's; a mask that is promoted becomes its `production`.
    Raises `ServiceError`.
    """
    jobs, history = Jobs(control.database), [job]

    def move(connection: Connection) -> None:
        after = jobs.move(connection, job.id, edit, "end job")
        if after is None:
            raise ConflictError(f"the job {job.id!r} was changed meanwhile; try again", code="changed_since")
        history.append(after)
        if after.state == "promoted":
            _point_production(control, connection, after)

    def stop() -> None:
        after = edit(jobs.get(job.id))  # raises where it cannot be
        winner = CANDIDATE if after.state == "promoted" else None
        reason = f"job {job.id} {after.state}: {why}"
        control.state.change(
            job.experiment, lambda each: stopped(each, reason, winner), action="stop experiment", also=move
        )

    def alone(current: Job) -> Job:
        if current.state != job.state:  # its canary may have begun, and would go on without it
            raise ConflictError(f"the job {job.id!r} was changed meanwhile; try again", code="changed_since")
        return edit(current)

    await control.follow()  # what is known of the experiment is then no older than the job
    experiment = control.policy.experiments.get(job.experiment)
    if experiment is None or experiment.status == "stopped":
        return await control.administer(jobs.edit, job.id, alone, "end job")
    await control.administer(stop)
    return history[-1]


def _point_production(control: Control, connection: Connection, job: Job) -> None:
    name, _, version = str(job.made["mask"]).partition("@")
    control.state.point_alias(connection, name, PRODUCTION, int(version), f"job {job.id}")
