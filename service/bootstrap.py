"""The one place where the service's objects are wired together."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

import masks
from behaviours import load_scorer
from edits.places import cuts_packed
from service import lifeline, logs, metrics
from service.abilities import Abilities
from service.contract import Engine
from service.database import Database, DatabaseLostError
from service.ending import Ending
from service.errors import ConflictError, EngineDiedError, UnavailableError
from service.experiments import Experiment
from service.files import MaskFiles
from service.intake import Intake
from service.keys import Keys
from service.labels import Labels
from service.outcomes import reading
from service.outcomes.ledger import Ledger
from service.outcomes.totals import Tally
from service.registry import Record, Registry
from service.reports import Reports
from service.routing import EXPERIMENT, Choice, Policy, Unit, Version, choose, resolve
from service.settings import Settings
from service.state import State
from service.upkeep import Upkeep

_log = logging.getLogger(__name__)
_MEASURE_EVERY = 1.0
"""Seconds: the engine is asked for its metrics no more often."""

P = ParamSpec("P")
T = TypeVar("T")


class Service:
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
        self.settings = settings
        self.clock = clock
        """Seconds since 1970."""
        self.database = database
        self.registry = registry
        self.state = State(database, max_experiments=settings.max_experiments, clock=clock)
        self.abilities = Abilities(registry.base, gated, settings.max_weight_rank)
        self.keys = Keys.of(settings)
        self.labels = Labels(settings.max_labels)
        self.engine: Engine | None = None
        self.ledger = Ledger(database, secrets.token_hex(8), clock)
        self.intake = Intake(settings, database, self.ledger, self._judge, clock)
        self.flagged, self.recorder = self.intake.flagged, self.intake.recorder
        self.reports = Reports(clock, settings.outcome_days)
        self.upkeep = Upkeep(self)
        self.ending = Ending(self)
        self.client_priority, self.cross_origin = False, dict[str, Any]()
        """Whether clients may order requests; what pages of other origins may (Starlette's ``CORSMiddleware``)."""
        self.policy = Policy(model)
        self._known: dict[str, Version] = {}
        self._read = (-1, -1)
        self._changes = asyncio.Lock()
        self._measured = float("-inf")
        self.reload()

    def reload(self) -> None:
        """Read what operators set from the database into a new policy. Blocking. Raises ``DatabaseLostError``."""
        snapshot, versions = self.state.read(), self.policy.masks
        if snapshot.masks != self._read[1]:
            versions = self._versions()
            while snapshot != (again := self.state.read()):  # the two must be of one moment: a route leads to a mask
                snapshot, versions = again, self._versions()
        self._read = snapshot.number, snapshot.masks
        self.policy = Policy(self.policy.model, versions, snapshot.route, snapshot.aliases, snapshot.experiments)
        metrics.show_experiments(snapshot.experiments.values())

    def behind(self) -> bool:
        """Whether another replica changed something since. Blocking. Raises ``DatabaseLostError``."""
        return self.database.number() != self._read[0]

    def _versions(self) -> dict[str, dict[int, Version]]:
        digests = self.registry.digests()
        new = [digest for digest in digests if digest not in self._known]
        for digest, record in self.registry.records(new).items():
            described, foreign = record.description, self.registry.foreign(record)
            cut = described["counts"]["weights"], described["rank"]
            since = int(datetime.fromisoformat(record.registered_at).timestamp())
            self._known[digest] = Version(
                record.name, record.version, digest, *cut, foreign, record.warnings, registered=since
            )
            if self.labels.of(record.label) == record.label:
                metrics.show_mask(record.label, digest, described["granularity"])
        for digest in self._known.keys() - digests.keys():
            gone = self._known.pop(digest).label
            metrics.hide_mask(gone)
            self.labels.forget(gone)
        versions: dict[str, dict[int, Version]] = {}
        for digest, (name, number) in digests.items():
            if digest in self._known:
                versions.setdefault(name, {})[number] = self._known[digest]
        return versions

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

    async def administer(self, change: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a change that blocks, in a thread, and see to it that the next request here is under it."""
        result = await asyncio.to_thread(change, *args, **kwargs)
        try:
            async with self._changes:
                await asyncio.to_thread(self.reload)
        except DatabaseLostError as error:  # the change is made, and is seen here once the database answers again
            _log.warning("a change is not in force here yet: %s", error)
        return result

    async def follow(self) -> None:
        """Learn what other replicas changed. Raises ``DatabaseLostError``."""
        if await asyncio.to_thread(self.behind):
            async with self._changes:
                await asyncio.to_thread(self.reload)

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

    async def tallies(self, experiment: Experiment) -> list[Tally]:
        """What all replicas have written of an experiment's outcomes."""
        return await asyncio.to_thread(reading.tallies, self.database, experiment.name)

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


_current: Service | None = None


def current() -> Service:
    """The service of this process: vLLM makes our plug-in and middleware itself, without arguments."""
    if _current is None:
        raise RuntimeError("no service in this process: start the server with `excise serve`")
    return _current


def serve(model: str, settings: Settings, given: Sequence[str], vllm_options: list[str]) -> None:
    """Run the server until it is told to stop. Blocks. ``given``: the masks to load with, files or names.

    Raises an error of ours where it cannot start, and ``EngineDiedError`` where the engine ended first.
    """
    global _current
    logs.begin(settings.log_format)
    if settings.scorer != "none":
        load_scorer(settings.scorer, patience=30)  # a wrong name is told now, not when the first response waits
    from service.baking import bake
    from service.engine import server  # imports vllm: slow, and not needed to say that a setting is wrong

    launch = server.prepare(model, vllm_options)
    base = masks.describe(launch.folder, id=launch.name)
    server.check_free(launch)
    files = MaskFiles(settings.store)
    database = Database(settings.database_url)
    registry = Registry(
        files,
        database,
        base,
        masks.parameters(launch.folder),
        allow_other_base=settings.allow_other_base,
        max_masks=settings.max_masks,
    )
    service = Service(settings, database, registry, launch.name, gated=server.can_gate(base.architecture))
    abilities = service.abilities
    file = bake(service, given) if given else None
    if file:
        # A packed matrix has no columns to set to zero as it streams in; its gates cut them, for every request.
        abilities.gated = abilities.gated and cuts_packed(masks.load(file), registry.parameters)
    elif not abilities.gated:
        _log.warning("%s has no gates: masks can only be baked in with --mask", base.architecture)
    service.client_priority = launch.options.scheduling_policy == "priority"
    service.ending.drain = launch.options.shutdown_timeout
    service.cross_origin = server.cross_origin(launch)
    _current = service
    server.run(launch, settings, mask=None if abilities.gated else file, gated=abilities.gated)
    if service.engine_died():
        raise EngineDiedError()
