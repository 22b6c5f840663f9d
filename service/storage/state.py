"""What operators set: the default route, aliases and experiments. Each change is one transaction with its audit entry.

Changes of all replicas happen one after the other (`Database.change`), so what is checked in a transaction holds when
it is committed. Replicas read everything anew when the number of changes has risen.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from service.errors import ConflictError, NotFoundError
from service.experiments.experiment import Experiment
from service.routing.mask_warnings import stored
from service.routing.policy import BASE, EXPERIMENT, NUMBER, PRODUCTION
from service.storage import audit
from service.storage.database import Database
from service.storage.registry import Record
from service.storage.snapshot import ROUTE, Snapshot, read_snapshot
from service.storage.tables import experiments, masks, pointers

_KEPT = 50
"""Targets that a pointer remembers, to roll back to."""


class State:
    """Route, aliases and experiments in the database. Blocking: call it from a thread."""

    def __init__(
        self, database: Database, *, max_experiments: int = 100, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._max_experiments = max_experiments
        self._clock = clock

    def read(self) -> Snapshot:
        """All of it."""
        with self._database.begin(reads=True) as connection:
            return read_snapshot(connection)

    def set_route(self, target: str) -> None:
        """Point the default route at `target`.

        Raises:
            NotFoundError: there is no such target.
        """
        with self._database.change() as connection:
            _check_target(connection, target)
            before = read_snapshot(connection).route
            _point(connection, ROUTE, target, "set route")
            if target != before:
                self._enter(connection, target)

    def rollback_route(self) -> str:
        """Point the default route back at the target before. Returns it.

        Raises:
            ServiceError: there is no target before, or it is gone.
        """
        with self._database.change() as connection:
            target: str = _back(connection, ROUTE, lambda target: _check_target(connection, target))
            self._enter(connection, target)
        return target

    def route_before(self) -> str | None:
        """Where `rollback_route` would lead now; None where nowhere."""
        with self._database.begin(reads=True) as connection:
            _, targets = _before(connection, ROUTE, lambda target: _check_target(connection, target))
        return targets[-1] if targets else None

    def _enter(self, connection: Connection, target: str) -> None:
        """The route leads to `target` from now on: the time of a ramp's step runs only while its users come."""
        if not target.startswith(EXPERIMENT):
            return
        experiment = replace(_experiment(connection, target.removeprefix(EXPERIMENT)), step_since=self._clock())
        entered = update(experiments).where(experiments.c.name == experiment.name)
        connection.execute(entered.values(document=experiment.document()))

    def set_alias(self, mask: str, alias: str, version: int) -> None:
        """Point an alias at a version.

        Raises:
            NotFoundError: there is no such version.
        """
        with self._database.change() as connection:
            self.point_alias(connection, mask, alias, version)

    def point_alias(self, connection: Connection, mask: str, alias: str, version: int, reason: str = "") -> None:
        """The same in a change that has begun (`Database.change`)."""
        _check_target(connection, f"{mask}@{version}")
        _point(connection, _alias(mask, alias), version, "set alias", reason=reason)

    def rollback_alias(self, mask: str, alias: str) -> int:
        """Point an alias back at the version before. Returns it.

        Raises:
            ServiceError: there is no version before, or it is gone.
        """
        with self._database.change() as connection:
            name = _alias(mask, alias)
            return _back(connection, name, lambda version: _check_target(connection, f"{mask}@{version}"))

    def remove_alias(self, mask: str, alias: str) -> None:
        """Take an alias away.

        Raises:
            NotFoundError: there is none.
            ConflictError: it is in use.
        """
        with self._database.change() as connection:
            snapshot, name = read_snapshot(connection), _alias(mask, alias)
            if alias not in snapshot.aliases.get(mask, {}):
                raise NotFoundError(f"mask {mask!r} has no alias {alias!r}", code="alias_not_found")
            if snapshot.route == f"{mask}@{alias}":
                raise ConflictError(f"the default route points at {snapshot.route}; change it first", code="in_use")
            audit.write(connection, "remove alias", name, before=snapshot.aliases[mask][alias])
            connection.execute(delete(pointers).where(pointers.c.name == name))

    def create(self, experiment: Experiment, *, also: Callable[[Connection], None] | None = None) -> Experiment:
        """Store a new experiment. Raises `ConflictError` where the name is taken, or there are too many.

        `also`: more that is to happen in the same change, or not at all.
        """
        with self._database.change() as connection:
            known = read_snapshot(connection).experiments
            if connection.scalar(select(experiments.c.name).where(experiments.c.name == experiment.name)):
                raise ConflictError(
                    f"there {'is' if experiment.name in known else 'was'} an experiment {experiment.name!r}; its "
                    "outcomes are its own, and replicas may still write some, so choose another name",
                    code="experiment_exists",
                    param="name",
                )
            if len(known) >= self._max_experiments:
                raise ConflictError(
                    f"there are {len(known)} experiments, as many as this server takes (EXCISE_MAX_EXPERIMENTS); "
                    "delete old ones",
                    code="too_many_experiments",
                )
            for variant in experiment.variants:
                _check_target(connection, variant.mask)
            connection.execute(
                insert(experiments).values(
                    name=experiment.name, revision=experiment.revision, document=experiment.document()
                )
            )
            warnings = _warnings(connection, *(variant.mask for variant in experiment.variants))
            after = experiment.document()
            audit.write(connection, "create experiment", experiment.name, after=after, warnings=warnings)
            if also:
                also(connection)
        return experiment

    def lead_to(self, connection: Connection, experiment: Experiment, before: str, reason: str = "") -> None:
        """Point the default route at an experiment that was just made, in a change that has begun.

        Raises `ConflictError` where it no longer points at `before`.
        """
        if (route := read_snapshot(connection).route) != before:
            raise ConflictError(f"the default route leads to {route} since, not to {before}", code="changed_since")
        _point(connection, ROUTE, EXPERIMENT + experiment.name, "set route", reason=reason)

    def change(
        self,
        name: str,
        edit: Callable[[Experiment], Experiment],
        *,
        action: str,
        revision: int | None = None,
        reason: str = "",
        also: Callable[[Connection], None] | None = None,
    ) -> Experiment:
        """Change an experiment. `revision`: the one that the change was made on. `also`: as of `create`.

        One that is stopped hands the default route on to its winner, or its control.

        Raises:
            NotFoundError: there is no such experiment.
            ConflictError: somebody else changed it since, or `edit` raises it.
        """
        with self._database.change() as connection:
            before = _experiment(connection, name)
            if revision is not None and before.revision != revision:
                raise ConflictError(
                    f"the experiment {name!r} is at revision {before.revision}, your change was made on {revision}; "
                    "read it again, and send the change with that revision",
                    code="changed_since",
                    param="revision",
                )
            after = replace(edit(before), revision=before.revision + 1)
            if after.status == "stopped":
                after = replace(after, stopped_at=self._clock())
            connection.execute(
                update(experiments)
                .where(experiments.c.name == name)
                .values(revision=after.revision, document=after.document())
            )
            documents: dict[str, Any] = {"before": before.document(), "after": after.document()}
            warnings = _warnings(connection, after.fallback) if after.status == "stopped" else []
            audit.write(connection, action, name, **documents, reason=reason or after.reason, warnings=warnings)
            if after.status == "stopped" and read_snapshot(connection).route == EXPERIMENT + name:
                _point(connection, ROUTE, after.fallback, "set route", reason=f"{action}: {name}")
            if also:
                also(connection)
        return after

    def remove(self, name: str) -> None:
        """Delete a stopped experiment; its name is never used again.

        Raises:
            NotFoundError: there is no such experiment.
            ConflictError: it still runs.
        """
        with self._database.change() as connection:
            experiment = _experiment(connection, name)
            if experiment.status != "stopped" or read_snapshot(connection).route == EXPERIMENT + name:
                raise ConflictError(f"the experiment {name!r} is {experiment.status}; stop it first", code="in_use")
            gone = update(experiments).where(experiments.c.name == name)
            connection.execute(gone.values(revision=experiment.revision + 1, document=None))
            audit.write(connection, "delete experiment", name, before=experiment.document())

    def check_unused(self, connection: Connection, record: Record) -> None:
        """Raise `ConflictError` where the route, an alias or an experiment that goes on uses this mask version."""
        snapshot = read_snapshot(connection)
        aliases = snapshot.aliases.get(record.name, {})
        users = [f"the alias {alias!r}" for alias, version in aliases.items() if version == record.version]
        named = aliases.get(PRODUCTION) or connection.scalar(
            select(func.max(masks.c.version)).where(masks.c.name == record.name, ~masks.c.deleted)
        )
        if snapshot.route == record.label or (snapshot.route == record.name and named == record.version):
            users.append("the default route")
        for experiment in snapshot.experiments.values():
            if experiment.status != "stopped" and record.label in {v.mask for v in experiment.variants}:
                users.append(f"the experiment {experiment.name!r}")
        if users:
            raise ConflictError(f"mask {record.label} is in use by {', '.join(users)}", code="in_use")


def _alias(mask: str, alias: str) -> str:
    return f"alias {mask} {alias}"


def _target_name(name: str, target: Any) -> str:
    """What a pointer to `target` leads to: of an alias, `name@version`."""
    return target if name == ROUTE else f"{name.split(' ')[1]}@{target}"


def _warnings(connection: Connection, *targets: str) -> list[str]:
    snapshot = read_snapshot(connection)
    return stored(connection, snapshot.aliases, snapshot.experiments, *targets)


def _experiment(connection: Connection, name: str) -> Experiment:
    document = connection.scalar(select(experiments.c.document).where(experiments.c.name == name))
    if document is None:
        raise NotFoundError(
            f"there is no experiment {name!r}; GET /experiments lists them", code="experiment_not_found", param="name"
        )
    return Experiment.of(document)


def _check_target(connection: Connection, target: str) -> None:
    """Raise `NotFoundError` where `target` does not exist, `ConflictError` for an experiment that is over."""
    if target == BASE:
        return
    if target.startswith(EXPERIMENT):
        experiment = _experiment(connection, target.removeprefix(EXPERIMENT))
        if experiment.status == "stopped":
            raise ConflictError(f"the experiment {experiment.name!r} was stopped", code="experiment_stopped")
        return
    name, at, wanted = target.partition("@")
    rows = select(masks.c.version).where(masks.c.name == name, ~masks.c.deleted)
    if at and NUMBER.fullmatch(wanted):
        rows = rows.where(masks.c.version == int(wanted))
    elif at and wanted not in read_snapshot(connection).aliases.get(name, {}):
        raise NotFoundError(f"mask {name!r} has no alias {wanted!r}", code="alias_not_found", param="target")
    if connection.execute(rows).first() is None:
        raise NotFoundError(f"there is no mask {target!r}", code="mask_not_found", param="target")


def _point(connection: Connection, name: str, target: Any, action: str, reason: str = "") -> None:
    targets = connection.scalar(select(pointers.c.targets).where(pointers.c.name == name))
    before = targets[-1] if targets else None
    warnings = _warnings(connection, _target_name(name, target))
    audit.write(connection, action, name, before=before, after=target, reason=reason, warnings=warnings)
    if targets is None:
        start = [BASE, target] if name == ROUTE and target != BASE else [target]
        connection.execute(insert(pointers).values(name=name, targets=start))
    elif before != target:
        kept = [*targets, target][-_KEPT:]
        connection.execute(update(pointers).where(pointers.c.name == name).values(targets=kept))


def _back(connection: Connection, name: str, check: Callable[[Any], None]) -> Any:
    """Point back at the newest other target before that still exists; what is gone is passed over."""
    before, targets = _before(connection, name, check)
    if not targets:
        raise ConflictError(f"{name}: there is no target before {before!r} to go back to", code="no_target_before")
    connection.execute(update(pointers).where(pointers.c.name == name).values(targets=targets))
    warnings = _warnings(connection, _target_name(name, targets[-1]))
    audit.write(connection, "roll back", name, before=before, after=targets[-1], warnings=warnings)
    return targets[-1]


def _before(connection: Connection, name: str, check: Callable[[Any], None]) -> tuple[Any, list[Any]]:
    """Where it points, and its targets up to the one that it would go back to; none where there is none."""
    targets = list(connection.scalar(select(pointers.c.targets).where(pointers.c.name == name)) or ())
    now = targets[-1] if targets else None
    while len(targets) > 1:
        targets.pop()
        with contextlib.suppress(NotFoundError, ConflictError):
            check(targets[-1])
            if targets[-1] != now:  # else what was between the two is gone
                return now, targets
    return now, []
