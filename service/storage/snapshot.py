"""What operators have set, all of it at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from service.experiments.experiment import Experiment
from service.routing.policy import BASE
from service.storage.tables import changes, experiments, pointers

ROUTE = "route"
"""The pointer of the default route; the others are aliases."""


@dataclass(frozen=True)
class Snapshot:
    """Everything that operators set, at one moment."""

    number: int
    """Of the change that made it so."""
    masks: int
    """Changes of masks among them."""
    route: str
    aliases: Mapping[str, Mapping[str, int]]
    """Mask name → alias → version."""
    experiments: Mapping[str, Experiment]


def read_snapshot(connection: Connection) -> Snapshot:
    """Read it in a transaction that has begun."""
    numbers = connection.execute(select(changes.c.number, changes.c.masks)).one()
    route = BASE
    aliases: dict[str, dict[str, int]] = {}
    for row in connection.execute(select(pointers)):
        if row.name == ROUTE:
            route = row.targets[-1]
        else:
            _, mask, alias = row.name.split(" ")
            aliases.setdefault(mask, {})[alias] = row.targets[-1]
    documents = connection.scalars(select(experiments.c.document).order_by(experiments.c.name))
    known = {document["name"]: Experiment.of(document) for document in documents if document}
    return Snapshot(numbers.number, numbers.masks, route, aliases, known)
