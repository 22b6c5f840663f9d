"""The experiment controller: stops where a guardrail is crossed, and takes a ramp's next step when it is due.

Every replica conducts; a change names the revision that it was made on, so one of them makes it and the others see it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import httpx

from service import metrics
from service.control import Control
from service.errors import ConflictError, NotFoundError
from service.experiments.experiment import Experiment, next_step, stopped
from service.experiments.outcomes.totals import Tally
from service.experiments.report.decision import healthy
from service.experiments.report.guardrails import coherent, crossed
from service.routing.policy import EXPERIMENT

_log = logging.getLogger(__name__)
_TRIES = 3
_TIMEOUT = 5.0
"""Of the webhook, seconds."""


def step_is_due(experiment: Experiment, tallies: Sequence[Tally], now: float) -> bool:
    """Whether the ramp may go on: time and counted responses of this step are there, and no guardrail is in sight."""
    if experiment.step + 1 >= len(experiment.ramp):
        return False
    step = experiment.ramp[experiment.step]
    if now < experiment.step_since + 60 * step.minutes:
        return False
    counted = {
        tally.variant: tally.units.responses + tally.units.errors
        for tally in tallies
        if tally.epoch == experiment.epoch
    }
    enough = all(counted.get(variant.name, 0) >= step.responses for variant in experiment.arms)
    last = experiment.ramp[experiment.step + 1].share == 1  # then the variant has won
    return enough and healthy(experiment, tallies) and (not last or coherent(experiment, tallies))


class ExperimentController:
    """Of one replica; looks at the experiment that the default route leads to."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._seen: tuple[Experiment, list[Tally]] | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def check_experiments(self) -> None:
        """Look once.

        Raises:
            DatabaseLostError: the database cannot be reached.
        """
        policy = self._control.policy
        if not policy.route.startswith(EXPERIMENT):
            return
        experiment = policy.experiments[policy.route.removeprefix(EXPERIMENT)]
        if experiment.status != "running":
            return
        tallies = await self._control.tallies(experiment)
        if (experiment, tallies) != self._seen:
            if crossing := await asyncio.to_thread(crossed, experiment, tallies):
                await self._stop(experiment, f"guardrail: {crossing.why}")
                return
            self._seen = experiment, tallies  # only now: what could not be stopped is looked at again
        if await asyncio.to_thread(step_is_due, experiment, tallies, self._control.clock()):
            now = self._control.clock()
            await self._change(experiment, "next step of the ramp", lambda current: next_step(current, now))

    async def close(self) -> None:
        """Give calls of the webhook that are under way a moment, then give up."""
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=_TIMEOUT)
            for call in late:
                call.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _stop(self, experiment: Experiment, reason: str) -> None:
        if await self._change(experiment, "stop by guardrail", lambda current: stopped(current, reason)):
            _log.warning("experiment %s stopped by itself: %s", experiment.name, reason)
            metrics.STOPPED.labels(experiment.name, "guardrail").inc()
            if self._control.settings.webhook.get_secret_value():
                call = asyncio.create_task(self._call(experiment, reason), name="excise-webhook")
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)

    async def _change(self, experiment: Experiment, action: str, edit: Callable[[Experiment], Experiment]) -> bool:
        """Whether this replica was the one that made the change."""
        change = self._control.state.change
        try:
            await self._control.administer(change, experiment.name, edit, action=action, revision=experiment.revision)
        except (ConflictError, NotFoundError) as error:
            _log.info("%s: %s", action, error)
            return False
        return True

    async def _call(self, experiment: Experiment, reason: str) -> None:
        """Tell the webhook. Tried a few times, then given up with a warning: traffic is back already."""
        event = {
            "event": "experiment_stopped",
            "experiment": experiment.name,
            "reason": reason,
            "route": experiment.variant(experiment.control).mask,
            "at": self._control.clock(),
        }
        for attempt in range(_TRIES):
            await asyncio.sleep(attempt)
            try:
                async with httpx.AsyncClient(timeout=_TIMEOUT) as client:
                    (
                        await client.post(self._control.settings.webhook.get_secret_value(), json=event)
                    ).raise_for_status()
                return
            except Exception as error:  # of httpx, or of TLS settings; the message may hold the URL, which is a secret
                _log.warning("the webhook failed (%d of %d): %s", attempt + 1, _TRIES, type(error).__name__)
