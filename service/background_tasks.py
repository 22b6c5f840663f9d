"""What a replica does beside answering: it writes outcomes, follows other replicas, steers experiments."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from service import metrics
from service.control import Control
from service.experiments.controller import ExperimentController
from service.experiments.outcomes import queries
from service.intake import Intake
from service.jobs.canary import Canaries
from service.jobs.regressions import Regressions
from service.storage.database import DatabaseLostError, DatabaseMovedError

_log = logging.getLogger(__name__)
Work = Callable[[], Awaitable[None]]

_WRITE_EVERY = 1.0
_CHECK_EVERY = 1.0
_REGRESS_EVERY = 30.0
_EXPIRE_EVERY = 600.0
_GRACE = 3600.0
"""Seconds for which outcomes may still come after an experiment was stopped."""
_HOUR, _DAY = 3600.0, 86_400.0
_PATIENCE = 15.0
"""Seconds: of the last, that a database which neither answers nor refuses is taken for one that is there."""


class BackgroundTasks:
    """The background tasks of one replica. They outlive every error: one that fails is tried again."""

    def __init__(self, control: Control, intake: Intake, prepare: Callable[[str], Awaitable[None]]) -> None:
        """`prepare` makes what a target leads to resident."""
        self._control, self._intake = control, intake
        self.canaries = Canaries(control, prepare, lambda: intake.judges)
        """Of jobs."""
        self.controller = ExperimentController(control)
        """Of experiments."""
        self._regressions = Regressions(control)
        self._tasks: list[asyncio.Task[None]] = []
        self._overflowed = 0
        self._failing: dict[Work, str] = {}
        """Work that the database failed when it was last done, and why."""
        self.lost: tuple[float, str] | None = None
        """Since when the database does not answer, seconds since 1970, and why; None while it does."""
        self.moved = False
        """Whether it does not because its file is not where it was."""

    def start(self) -> None:
        """Begin, on the running event loop."""
        work = (
            (self.write, _WRITE_EVERY),
            (self._control.follow, self._control.settings.poll_seconds),
            (self.controller.check_experiments, _CHECK_EVERY),
            (self.canaries.conduct, _CHECK_EVERY),
            (self._regressions.conduct, _REGRESS_EVERY),
            (self.expire, _EXPIRE_EVERY),
        )
        self._tasks = [asyncio.create_task(self._each(seconds, one), name="excise-upkeep") for one, seconds in work]

    async def close(self) -> None:
        """End, and write down what was gathered."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.controller.close()
        try:
            await asyncio.to_thread(self._intake.ledger.close)
            await asyncio.to_thread(self._intake.traffic.flush)
            await asyncio.to_thread(self._intake.answers.write)
        except Exception as error:  # of any kind: the server is ending
            _log.warning("%d outcomes were not written and are lost: %r", self._intake.ledger.waiting, error)

    async def expire(self) -> None:
        """Forget what is old: minutes, answers that nobody may rate any more, users of experiments that are over."""
        control, settings = self._control, self._control.settings
        now = control.clock()
        over = now - _GRACE - settings.feedback_hours * _HOUR
        known = control.policy.experiments.values()
        stopped = [one.name for one in known if one.status == "stopped" and one.stopped_at < over]
        await asyncio.to_thread(self._intake.answers.expire)
        await asyncio.to_thread(queries.expire, control.database, now - settings.outcome_days * _DAY, stopped)

    async def write(self) -> None:
        """Write down the outcomes, answers and traffic that wait."""
        ledger = self._intake.ledger
        await asyncio.to_thread(self._intake.answers.write)
        await asyncio.to_thread(self._intake.traffic.flush)
        metrics.OUTCOMES_WAITING.set(ledger.waiting)
        if not ledger.waiting:
            return
        metrics.OUTCOMES_WRITTEN.inc(await asyncio.to_thread(ledger.flush))
        metrics.OUTCOMES_WAITING.set(ledger.waiting)
        if ledger.overflowed > self._overflowed:
            _log.warning("%d responses cannot stand for their users in tests: too many waited", ledger.overflowed)
            self._overflowed = ledger.overflowed

    async def _each(self, seconds: float, work: Work) -> None:
        while True:
            began = time.monotonic()
            await self.once(work)
            await asyncio.sleep(max(0.05, seconds - (time.monotonic() - began)))

    async def once(self, work: Work) -> None:
        """Do one of the tasks, log what it raises, and note whether the database answered it."""
        late = asyncio.get_running_loop().call_later(_PATIENCE, self._late, work)
        try:
            await work()
        except DatabaseLostError as error:
            self._failing[work] = error.message
            self.moved = isinstance(error, DatabaseMovedError)
        except Exception:
            _log.exception("upkeep failed, and is tried again")
            return
        else:
            # Work that had nothing to ask of the database says nothing about it, so each speaks for itself only: one
            # that failed has still to ask. A full disk fails those that write, and lets the others read.
            self._failing.pop(work, None)
        finally:
            late.cancel()
        self._note()

    def _late(self, work: Work) -> None:
        self._failing[work] = f"the database has not answered for {_PATIENCE:.0f} s"
        self._note()

    def _note(self) -> None:
        metrics.DATABASE_UP.set(not self._failing)
        if self._failing and not self.lost:
            self.lost = self._control.clock(), next(iter(self._failing.values()))
            _log.warning("%s; what is known is served on", self.lost[1])
        elif self.lost and not self._failing:
            _log.warning("the database answers again, after %.0f s", self._control.clock() - self.lost[0])
            self.lost, self.moved = None, False
