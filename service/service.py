"""The service: what operators set, the engine, what is gathered of responses, and what goes on beside requests."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from service import lifeline
from service.abilities import Abilities
from service.contract import Engine
from service.control import Control
from service.database import Database
from service.ending import Ending
from service.errors import ConflictError, UnavailableError
from service.intake import Intake
from service.keys import Keys
from service.outcomes import reading
from service.outcomes.ledger import Ledger
from service.registry import Record, Registry
from service.reports import Reports
from service.routing import EXPERIMENT, Choice, Unit, choose, resolve
from service.settings import Settings
from service.upkeep import Upkeep

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
        self.abilities = Abilities(registry.base, gated, settings.max_weight_rank)
        self.keys = Keys.of(settings)
        self.engine: Engine | None = None
        self.ledger = Ledger(database, secrets.token_hex(8), clock)
        self.intake = Intake(settings, database, self.ledger, self._judge, clock)
        self.flagged, self.recorder = self.intake.flagged, self.intake.recorder
        self.reports = Reports(clock, settings.outcome_days)
        self.upkeep = Upkeep(self, self.intake, self.prepare)
        self.ending = Ending(lambda: self.engine, self.intake.scoring.hurry, settings.scoring_drain)
        self.client_priority, self.cross_origin = False, dict[str, Any]()
        """Whether clients may order requests; what pages of other origins may (Starlette's ``CORSMiddleware``)."""
        self._measured = float("-inf")

    def choose(self, model: str | None, unit: Unit) -> Choice:
        """Route a request by its body's ``model`` and its unit. Raises ``ServiceError``."""
        if self.abilities.baked and model in (None, self.policy.model):
            return Choice(self.abilities.baked)
        choice = choose(self.policy, model, unit)
        self.abilities.check(choice)
        return choice

    async def adapter(self, choice: Choice, *, retry: bool = False) -> str:
        """The name by which vLLM's handlers know ``choice``. Raises ``UnavailableError``: never falls back to base."""
        version, abilities = choice.version, self.abilities
        if version is None or (version == abilities.baked and not abilities.gated):
            return self.policy.model
        if self.engine is None:
            raise UnavailableError("the engine is still starting; try again", code="engine_not_ready")
        return await self.engine.ensure(version, retry=retry)

    async def register(self, data: bytes) -> tuple[Record, bool]:
        """Register a mask file and make it resident, where it can be. Raises ``ServiceError``."""
        record, created = await self.administer(self.registry.register, data)
        if record.warnings:
            _log.warning("mask %s was registered with warnings: %s", record.label, " ".join(record.warnings))
        try:
            choice = resolve(self.policy, record.label)
            self.abilities.check(choice)
            await self.adapter(choice, retry=True)
        except ConflictError:
            pass  # usable at load; a request that names it is told so
        except UnavailableError as error:  # it is registered all the same, and each request tries again
            _log.warning("%s", error)
        return record, created

    async def delete(self, name: str, version: int) -> Record:
        """Take a mask out that nothing uses. Raises ``ServiceError``."""
        baked = self.abilities.baked
        if baked and (baked.name, baked.version) == (name, version):
            raise ConflictError(f"this server was loaded with {baked.label}", code="in_use")
        return await self.administer(self.registry.delete, name, version, check=self.state.check_unused)

    async def prepare(self, target: str) -> None:
        """Make sure that ``target`` can be served now, with every mask resident. Raises ``ServiceError``."""
        targets = [target]
        if target.startswith(EXPERIMENT):
            experiment = self.policy.experiments.get(target.removeprefix(EXPERIMENT))
            targets = [variant.mask for variant in experiment.variants] if experiment else []
        for one in targets:
            choice = resolve(self.policy, one)
            self.abilities.check(choice)
            await self.adapter(choice)

    def route(self) -> str:
        """The default route in force."""
        return self.abilities.baked.label if self.abilities.baked else self.policy.route

    async def remove(self, name: str) -> None:
        """Delete a stopped experiment and its outcomes. Raises ``ServiceError``."""
        await self.administer(self.state.remove, name)
        await asyncio.to_thread(reading.forget, self.database, name)

    async def attach(self, engine: Engine) -> None:
        """The engine is up: start to score what it answers, to write it down, and to watch over all of it."""
        self.engine = engine
        if self.abilities.baked and self.abilities.gated:
            await engine.ensure(self.abilities.baked)
        self.intake.start(baked=self.abilities.baked is not None)
        self.upkeep.start()
        self._watch = asyncio.create_task(lifeline.end_with(lambda: engine.dead))

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
        if not self.abilities.gated or not self.engine or self.engine.dead or now < self._measured + _MEASURE_EVERY:
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
            await self.upkeep.close()
            self.reports.close()
            self.database.close()
