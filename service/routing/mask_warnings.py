"""Warnings of the masks that a target leads to.

As a replica knows them, for answers, or as the database has them, for the audit of a change, in its transaction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

from sqlalchemy import Connection, select

from masks import harm
from service.errors import NotFoundError
from service.experiments.experiment import Experiment
from service.routing.policy import EXPERIMENT, NUMBER, PRODUCTION, Policy, resolve
from service.storage.tables import masks


def labelled(label: str, warnings: tuple[str, ...]) -> list[str]:
    """`detox@1: Perplexity rose by …`: where warnings of several masks stand together."""
    return [f"{label}: {each}" for each in warnings]


def warnings(policy: Policy, *targets: str) -> list[str]:
    """What the masks that targets lead to say against themselves; nothing where one leads nowhere."""
    messages: dict[str, None] = {}
    for target in _masks(policy.experiments, targets):
        with contextlib.suppress(NotFoundError):
            if version := resolve(policy, target).version:
                messages |= dict.fromkeys(labelled(version.label, version.warnings))
    return list(messages)


def stored(
    connection: Connection,
    aliases: Mapping[str, Mapping[str, int]],
    experiments: Mapping[str, Experiment],
    *targets: str,
) -> list[str]:
    """The same from the database, with everything that operators set."""
    messages: dict[str, None] = {}
    for target in _masks(experiments, targets):
        name, _, wanted = target.partition("@")
        version = int(wanted) if NUMBER.fullmatch(wanted) else aliases.get(name, {}).get(wanted or PRODUCTION)
        rows = select(masks.c.version, masks.c.description).where(masks.c.name == name, ~masks.c.deleted)
        if version is not None:
            rows = rows.where(masks.c.version == version)
        if row := connection.execute(rows.order_by(masks.c.version.desc()).limit(1)).first():
            said = labelled(f"{name}@{row.version}", harm.warnings(row.description["measured"]))
            messages |= dict.fromkeys(said)
    return list(messages)


def _masks(experiments: Mapping[str, Experiment], targets: Iterable[str]) -> Iterator[str]:
    """Targets, with the masks of its variants in an experiment's place."""
    for target in targets:
        if not target.startswith(EXPERIMENT):
            yield target
        elif experiment := experiments.get(target.removeprefix(EXPERIMENT)):
            yield from (variant.mask for variant in experiment.variants)
