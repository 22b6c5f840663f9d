"""The service: what operators set, the engine, what is gathered of responses, and what goes on beside requests."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from service import watchdog
from service.background_tasks import BackgroundTasks
from service.capabilities import Capabilities
from service.control import Control
from service.engine_protocol import Engine
from service.errors import ConflictError, UnavailableError
from service.experiments.outcomes import queries
from service.experiments.outcomes.ledger import Ledger
from service.experiments.report_thread import Reports
from service.intake import Intake
from service.keys import Keys
from service.routing.policy import EXPERIMENT, Choice, Unit, choose, resolve
from service.settings import Settings
from service.shutdown import Shutdown
from service.storage.database import Database
from service.storage.registry import Record, Registry

_log = logging.getLogger(__name__)
_MEASURE_EVERY = 1.0
"""Seconds: the engine is asked for its metrics no more often."""


class Service(Control):
    """Everything of one server that outlives a request. Lives on one event loop."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        registry: Registry,
        model: str,
        *,
        gated: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(settings, database, registry, model, clock)
        self.capabilities = Capabilities(registry.base, gated, settings.max_weight_rank)
        self.keys = Keys.of(settings)
        self.engine: Engine | None = None
        self.ledger = Ledger(database, secrets.token_hex(8), clock)
        self.intake = Intake(settings, database, self.ledger, self._judge, clock)
        self.flagged, self.recorder = self.intake.flagged, self.intake.recorder
        self.reports = Reports(clock, settings.outcome_days)
        self.background_tasks = BackgroundTasks(self, self.intake, self.prepare)
        self.ending = Shutdown(lambda: self.engine, self.intake.scoring.hurry, settings.scoring_drain)
        self.client_priority, self.cross_origin = False, dict[str, Any]()
        """Whether clients may order requests; what pages of other origins may (Starlette's `CORSMiddleware`)."""
        self._measured = float("-inf")

    def choose(self, model: str | None, unit: Unit) -> Choice:
        """Route a request by its body's `model` and its unit.

        Raises:
            ServiceError: there is no such mask, or it cannot be served here.
        """
        if self.capabilities.baked and model in (None, self.policy.model):
            return Choice(self.capabilities.baked)
        choice = choose(self.policy, model, unit)
        self.capabilities.check(choice)
        return choice

    async def adapter(self, choice: Choice, *, retry: bool = False) -> str:
        """The name by which vLLM's handlers know `choice`.

        Raises:
            UnavailableError: the mask is not resident and cannot be made so; the base never stands in for it.
        """
        version, capabilities = choice.version, self.capabilities
        if version is None or (version == capabilities.baked and not capabilities.gated):
            return self.policy.model
        if self.engine is None:
            raise UnavailableError("the engine is still starting; try again", code="engine_not_ready")
        return await self.engine.ensure(version, retry=retry)

    async def register(self, data: bytes) -> tuple[Record, bool]:
        """Register a mask file and make it resident, where it can be.

        Raises:
            ServiceError: the file is bad, of another model, or one too many.
        """
        record, created = await self.administer(self.registry.register, data)
        if record.warnings:
            _log.warning("mask %s was registered with warnings: %s", record.label, " ".join(record.warnings))
        try:
            choice = resolve(self.policy, record.label)
            self.capabilities.check(choice)
            await self.adapter(choice, retry=True)
        except ConflictError:
            pass  # usable at load; a request that names it gets the error
        except UnavailableError as error:  # it is registered all the same, and each request tries again
            _log.warning("%s", error)
        return record, created

    async def delete(self, name: str, version: int) -> Record:
        """Take a mask out that nothing uses.

        Raises:
            ServiceError: there is no such mask, or something uses it.
        """
        baked = self.capabilities.baked
        if baked and (baked.name, baked.version) == (name, version):
            raise ConflictError(f"this server was loaded with {baked.label}", code="in_use")
        return await self.administer(self.registry.delete, name, version, check=self.state.check_unused)

    async def prepare(self, target: str) -> None:
        """Make sure that `target` can be served now, with every mask resident.

        Raises:
            ServiceError: it names no mask, or one that cannot be served.
        """
        targets = [target]
        if target.startswith(EXPERIMENT):
            experiment = self.policy.experiments.get(target.removeprefix(EXPERIMENT))
            targets = [variant.mask for variant in experiment.variants] if experiment else []
        for one in targets:
            choice = resolve(self.policy, one)
            self.capabilities.check(choice)
            await self.adapter(choice)

    def route(self) -> str:
        """The default route in force."""
        return self.capabilities.baked.label if self.capabilities.baked else self.policy.route

    async def remove(self, name: str) -> None:
        """Delete a stopped experiment and its outcomes.

        Raises:
            ServiceError: there is no such experiment, or it still runs.
            DatabaseLostError: the database cannot be reached.
        """
        await self.administer(self.state.remove, name)
        await asyncio.to_thread(queries.forget, self.database, name)

    async def attach(self, engine: Engine) -> None:
        """The engine is up: start to score what it answers, to write it down, and to watch over all of it."""
        self.engine = engine
        if self.capabilities.baked and self.capabilities.gated:
            await engine.ensure(self.capabilities.baked)
        self.intake.start(baked=self.capabilities.baked is not None)
        self.background_tasks.start()
        self._watch = asyncio.create_task(watchdog.end_with(lambda: engine.dead))

    async def _judge(self, context: Sequence[int], said: Sequence[int]) -> float:
        if self.engine is None:
            raise UnavailableError("the engine is still starting", code="engine_not_ready")
        return await self.engine.judge(context, said)

    def engine_died(self) -> bool:
        """Whether there was an engine and it ended by itself."""
        return self.engine is not None and self.engine.dead

    async def measure(self) -> None:
        """Bring the metrics up to date that only the engine knows, unless they were a second ago."""
        now = time.monotonic()
        if not self.capabilities.gated or not self.engine or self.engine.dead or now < self._measured + _MEASURE_EVERY:
            return
        self._measured = now
        try:
            await asyncio.wait_for(self.engine.measure(), _MEASURE_EVERY)
        except Exception as error:  # or a long step; the other metrics are still worth reading
            _log.warning("the engine does not tell its residency: %r", error)

    async def close(self) -> None:
        """Score what is waiting, within a limit, write it down, and let go of everything."""
        try:
            # There is little time then.
            await self.intake.close(drain=not (self.ending.hurried or self.engine_died()))
        finally:
            await self.background_tasks.close()
            self.reports.close()
            self.database.close()
