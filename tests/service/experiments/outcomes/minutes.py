"""What is stored of single minutes, read in full: the reports' `course` leaves out users and histograms."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import func, select

from service.experiments.outcomes.totals import Totals
from service.storage.database import Database
from service.storage.tables import WHOLE, outcomes


class Minutes(NamedTuple):
    """What happened to one variant in some minutes."""

    start: float
    variant: str
    all: Totals
    units: Totals


def timeline(database: Database, experiment: str, width: int = 1) -> list[Minutes]:
    """By time and variant, over all epochs and replicas, ``width`` minutes at a time."""
    minute = outcomes.c.minute - outcomes.c.minute % width
    by = (minute, outcomes.c.variant, outcomes.c.kind)
    sums = [func.sum(column) for column in outcomes.columns if not column.primary_key]
    query = select(*by, *sums).where(outcomes.c.experiment == experiment, outcomes.c.minute != WHOLE).group_by(*by)
    with database.begin(reads=True) as connection:
        totals = {tuple(row[:3]): Totals.of(row[3:]) for row in connection.execute(query)}
    places = sorted({(start, variant) for start, variant, _ in totals})
    return [
        Minutes(60.0 * start, variant, *(totals.get((start, variant, kind), Totals()) for kind in ("all", "units")))
        for start, variant in places
    ]
