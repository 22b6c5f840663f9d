"""What operators have set, as it is in force in this replica, and how it is changed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import ParamSpec, TypeVar

from service import metrics
from service.experiments.experiment import Experiment
from service.experiments.outcomes import queries
from service.experiments.outcomes.totals import Tally
from service.metric_labels import Labels
from service.routing.policy import MaskVersion, Policy
from service.settings import Settings
from service.storage.database import Database, DatabaseLostError
from service.storage.registry import Registry
from service.storage.state import State

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Control:
    """Masks, aliases, the route and experiments: read from the database, into a policy that requests are under.

    Lives on one event loop; several replicas share the database, and each follows what the others change.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        registry: Registry,
        model: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.clock = clock
        """Seconds since 1970."""
        self.database = database
        self.registry = registry
        self.state = State(database, max_experiments=settings.max_experiments, clock=clock)
        self.labels = Labels(settings.max_labels)
        self.policy = Policy(model)
        self._known: dict[str, MaskVersion] = {}
        self._read = (-1, -1)
        self._changes = asyncio.Lock()
        self.reload()

    def reload(self) -> None:
        """Read what operators set from the database into a new policy. Blocking.

        Raises:
            DatabaseLostError: the database cannot be reached.
        """
        snapshot, versions = self.state.read(), self.policy.masks
        if snapshot.masks != self._read[1]:
            versions = self._versions()
            while snapshot != (again := self.state.read()):  # the two must be of one moment: a route leads to a mask
                snapshot, versions = again, self._versions()
        self._read = snapshot.number, snapshot.masks
        self.policy = Policy(self.policy.model, versions, snapshot.route, snapshot.aliases, snapshot.experiments)
        metrics.show_experiments(snapshot.experiments.values())

    def behind(self) -> bool:
        """Whether another replica changed something since. Blocking.

        Raises:
            DatabaseLostError: the database cannot be reached.
        """
        return self.database.number() != self._read[0]

    def _versions(self) -> dict[str, dict[int, MaskVersion]]:
        digests = self.registry.digests()
        new = [digest for digest in digests if digest not in self._known]
        for digest, record in self.registry.records(new).items():
            described, foreign = record.description, self.registry.foreign(record)
            cut = described["counts"]["weights"], described["rank"]
            since = int(datetime.fromisoformat(record.registered_at).timestamp())
            self._known[digest] = MaskVersion(
                record.name, record.version, digest, *cut, foreign, record.warnings, registered=since
            )
            if self.labels.of(record.label) == record.label:
                metrics.show_mask(record.label, digest, described["granularity"])
        for digest in self._known.keys() - digests.keys():
            gone = self._known.pop(digest).label
            metrics.hide_mask(gone)
            self.labels.forget(gone)
        versions: dict[str, dict[int, MaskVersion]] = {}
        for digest, (name, number) in digests.items():
            if digest in self._known:
                versions.setdefault(name, {})[number] = self._known[digest]
        return versions

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
        """Learn what other replicas changed.

        Raises:
            DatabaseLostError: the database cannot be reached.
        """
        if await asyncio.to_thread(self.behind):
            async with self._changes:
                await asyncio.to_thread(self.reload)

    async def tallies(self, experiment: Experiment) -> list[Tally]:
        """What all replicas have written of an experiment's outcomes."""
        return await asyncio.to_thread(queries.tallies, self.database, experiment.name)
