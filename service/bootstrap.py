"""The one place where the service's objects are wired together."""

from __future__ import annotations

import asyncio
import functools
import logging
import operator
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import masks
from behaviours import load_scorer
from edits.places import cuts_packed
from service import lifeline, metrics
from service.errors import ConflictError, EngineDiedError, NotFoundError, UnavailableError
from service.registry import Record, Registry
from service.routing import Choice, Policy, Share, Version, choose, resolve
from service.scoring import ScoringQueue
from service.settings import Settings

_log = logging.getLogger(__name__)


_MEASURE_EVERY = 1.0
"""Seconds: the engine is asked for its metrics no more often."""


class Engine(Protocol):
    """What the service needs of a running engine (``service.engine.residency.Residency``)."""

    @property
    def dead(self) -> bool:
        """Whether the engine has ended by itself and will not answer again."""

    async def ensure(self, version: Version, *, retry: bool = False) -> str:
        """Make a mask usable; return the name under which the engine's handlers know it.

        ``retry``: even if it was refused a moment ago.
        """

    async def check_health(self) -> None:
        """Raise if the engine is dead."""

    async def measure(self) -> None:
        """Bring the metrics of residency up to date."""


class Service:
    """Settings, registry, policy, engine and scoring of one server. Lives on one event loop."""

    def __init__(self, settings: Settings, registry: Registry, model: str, *, gated: bool) -> None:
        self.settings = settings
        self.registry = registry
        self.gated = gated
        """Whether the engine has gates, that is, can apply a mask per request."""
        self.fixed_weights = ""
        """Why the engine cannot apply masks of single weights per request, or empty."""
        self.baked: Version | None = None
        """The mask that the engine was loaded with."""
        self.engine: Engine | None = None
        self._measured = float("-inf")
        self.scoring = None if settings.scorer == "none" else ScoringQueue(settings.scorer, settings.scoring_queue)
        self.policy = Policy(model)
        self._changes = asyncio.Lock()
        self.reload()

    def reload(self) -> None:
        """Read masks and route from the registry into a new policy."""
        versions: dict[str, tuple[Version, ...]] = {}
        for record in self.registry.list()[0]:
            versions[record.name] = (*versions.get(record.name, ()), self._version(record))
        self.policy = replace(self.policy, masks=versions, route=self.registry.route())

    def _version(self, record: Record) -> Version:
        described = record.description
        foreign = self.registry.foreign(record)
        version = Version(
            record.name,
            record.version,
            record.digest,
            described["counts"]["weights"],
            self.registry.rank(record),
            foreign,
        )
        metrics.MASK_INFO.labels(version.label, record.digest, described["granularity"]).set(1)
        return version

    def bake(self, given: Sequence[str]) -> Path:
        """Choose the mask to load with: mask files, which are registered, or ``name[@version]``. Returns its file.

        Several are baked in as their union, which is registered as a mask of its own. Raises ``ServiceError`` for a
        mask that does not fit, is broken or unknown.
        """
        chosen = list(dict.fromkeys(self._given(one) for one in given))
        self.baked = chosen[0]
        if len(chosen) > 1:
            union = functools.reduce(operator.or_, (self.registry.load(version.digest) for version in chosen))
            record, _ = self.registry.register(masks.dumps(union))
            self.reload()
            self.baked = resolve(self.policy, f"{record.name}@{record.version}").version
        assert self.baked is not None  # noqa: S101 - _given raises otherwise
        self.registry.load(self.baked.digest)  # raises if it is damaged, or made for another model
        return self.registry.path(self.baked.digest)

    def _given(self, given: str) -> Version:
        """One value of ``--mask``."""
        name = given
        if Path(given).is_file():
            record, _ = self.registry.register(Path(given).read_bytes())
            self.reload()
            name = f"{record.name}@{record.version}"
        try:
            version = resolve(self.policy, name).version
        except NotFoundError as error:
            raise NotFoundError(f"--mask {given}: no such file, and {error}", code=error.code) from error
        if version is None:
            raise ConflictError("--mask base cuts nothing; leave the option out", code="mask_not_usable")
        return version

    def choose(self, model: str | None, unit: str) -> Choice:
        """Route a request by its body's ``model`` and its unit key. Raises ``ServiceError``."""
        if self.baked and model in (None, self.policy.model):
            return Choice(self.baked)
        choice = choose(self.policy, model, unit)
        self.check_usable(choice)
        return choice

    def check_usable(self, choice: Choice) -> None:
        """Raise ``ConflictError`` where this server cannot serve ``choice``, saying what can."""
        version = choice.version
        if self.baked:
            if version == self.baked:
                return
            raise ConflictError(
                f"this server was loaded with {self.baked.label} and serves nothing else; for {choice.label} "
                "start one without --mask",
                code="mask_not_usable",
                param="model",
            )
        if version is None:
            return
        if version.foreign:
            raise ConflictError(
                f"mask {version.label} was made for a model with fingerprint {version.foreign}, this one has "
                f"{self.registry.base.fingerprint}; make one for this model, or start with --allow-other-base",
                code="mask_for_another_model",
                param="model",
            )
        reason = None
        if not self.gated:
            reason = f"this model's architecture ({self.registry.base.architecture}) has no gates"
        elif version.weights:
            reason = self._refused_weights(version)
        if reason:
            raise ConflictError(
                f"{reason}; bake it in at load: excise serve --model … --mask {version.label}",
                code="mask_not_usable",
                param="model",
            )

    def _refused_weights(self, version: Version) -> str | None:
        cuts = f"mask {version.label} cuts {version.weights} single weights"
        limit = self.settings.max_weight_rank
        if version.rank is None:
            return f"{cuts}, some of them outside the layers' projections, where nothing can be changed per request"
        if version.rank > limit:
            return (
                f"{cuts}, which takes factors of rank {version.rank} per request; the limit is {limit} "
                "(--max-weight-rank)"
            )
        if self.fixed_weights:
            return f"{cuts}, which this engine cannot change per request: {self.fixed_weights}"
        return None

    async def adapter(self, choice: Choice, *, retry: bool = False) -> str:
        """The name by which vLLM's handlers know ``choice``. Raises ``UnavailableError``: never falls back to base."""
        if choice.version is None or (choice.version == self.baked and not self.gated):
            return self.policy.model
        if self.engine is None:
            raise UnavailableError("the engine is still starting; try again", code="engine_not_ready")
        return await self.engine.ensure(choice.version, retry=retry)

    async def register(self, data: bytes) -> tuple[Record, bool]:
        """Register a mask file and make it resident, where it can be. Raises ``ServiceError``."""
        async with self._changes:
            record, created = await asyncio.to_thread(self.registry.register, data)
            version = self._version(record)
            known = self.policy.masks.get(record.name, ())
            if version not in known:
                self.policy = replace(self.policy, masks={**self.policy.masks, record.name: (*known, version)})
        try:
            self.check_usable(Choice(version))
            await self.adapter(Choice(version), retry=True)
        except ConflictError:
            pass  # usable at load; a request that names it is told so
        except UnavailableError as error:  # it is registered all the same, and each request tries again
            _log.warning("%s", error)
        return record, created

    async def set_route(self, route: tuple[Share, ...]) -> tuple[Share, ...]:
        """Change the default route for the next request on. Raises ``NotFoundError`` or ``ConflictError``."""
        for share in route:  # what takes time comes first, so that others need not wait for it
            choice = resolve(self.policy, share.target)
            self.check_usable(choice)
            await self.adapter(choice)
        async with self._changes:
            await asyncio.to_thread(self.registry.set_route, route)
            self.policy = replace(self.policy, route=route)
        return route

    def route(self) -> tuple[Share, ...]:
        """The default route in force."""
        return (Share(self.baked.label),) if self.baked else self.policy.route

    async def attach(self, engine: Engine) -> None:
        """The engine is up: start to score what it answers, and to watch it."""
        self.engine = engine
        if self.baked and self.gated:
            await engine.ensure(self.baked)
        if self.scoring:
            self.scoring.start()
        self._watch = asyncio.create_task(lifeline.end_with(lambda: engine.dead))

    def engine_died(self) -> bool:
        """Whether there was an engine and it ended by itself."""
        return self.engine is not None and self.engine.dead

    async def measure(self) -> None:
        """Bring the metrics up to date that only the engine knows, unless they were a second ago."""
        now = time.monotonic()
        if not self.gated or not self.engine or self.engine.dead or now < self._measured + _MEASURE_EVERY:
            return
        self._measured = now
        try:
            await asyncio.wait_for(self.engine.measure(), _MEASURE_EVERY)
        except Exception as error:  # or a long step; the other metrics are still worth reading
            _log.warning("the engine does not tell its residency: %r", error)

    async def close(self) -> None:
        """Score what is waiting, within a limit, and let go of everything."""
        if self.scoring:
            await self.scoring.close()
        self.registry.close()


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
    if settings.scorer != "none":
        load_scorer(settings.scorer)  # a wrong name is told now, not when the first response waits
    from service.engine import server  # imports vllm: slow, and not needed to say that a setting is wrong

    launch = server.prepare(model, vllm_options)
    base = masks.describe(launch.folder, id=launch.name)
    registry = Registry(
        settings.store,
        settings.database_url,
        base,
        masks.parameters(launch.folder),
        allow_other_base=settings.allow_other_base,
    )
    service = Service(settings, registry, launch.name, gated=server.can_gate(base.architecture))
    file = service.bake(given) if given else None
    if file:
        # A packed matrix has no columns to set to zero as it streams in; its gates cut them, for every request.
        service.gated = service.gated and cuts_packed(masks.load(file), registry.parameters)
    elif not service.gated:
        _log.warning("%s has no gates: masks can only be baked in with --mask", base.architecture)
    _current = service
    server.run(launch, settings, mask=None if service.gated else file, gated=service.gated)
    if service.engine_died():
        raise EngineDiedError()
