"""What all replicas wrote, added up by the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select

from service.experiments.outcomes.totals import Tally, Totals
from service.storage.database import Database
from service.storage.tables import STATISTICS, WHOLE, answers, outcomes, units

_SUMS = [func.sum(column) for column in outcomes.columns if not column.primary_key]


@dataclass(frozen=True)
class Moment:
    """What happened to one variant in some minutes."""

    start: float
    """Seconds since 1970."""
    variant: str
    all: Totals
    minutes: int = 1


def tallies(database: Database, experiment: str) -> list[Tally]:
    """By epoch and variant, in this order; a variant that nobody met is left out. Raises `DatabaseLostError`."""
    by = (outcomes.c.epoch, outcomes.c.variant, outcomes.c.kind)
    query = select(*by, *_SUMS).where(outcomes.c.experiment == experiment, outcomes.c.minute == WHOLE).group_by(*by)
    totals: dict[tuple[int, str], dict[str, Totals]] = {}
    with database.begin(reads=True) as connection:
        for epoch, variant, kind, *sums in connection.execute(query):
            totals.setdefault((epoch, variant), {})[kind] = Totals.of(sums)
    nothing = Totals()
    return [
        Tally(epoch, variant, all=kinds.get("all", nothing), units=kinds.get("units", nothing))
        for (epoch, variant), kinds in sorted(totals.items())
    ]


def course(database: Database, experiment: str, width: int, since: float = 0.0) -> list[Moment]:
    """By time and variant, over all epochs, `width` minutes at a time: of every response, without histograms.

    `since`: seconds since 1970, from which on. Raises `DatabaseLostError`.
    """
    minute = outcomes.c.minute - outcomes.c.minute % width
    rows = outcomes.c.experiment == experiment, outcomes.c.minute >= int(since // 60), outcomes.c.kind == "all"
    sums = [func.sum(outcomes.c[name]) for name in STATISTICS]
    query = select(minute, outcomes.c.variant, *sums).where(*rows).group_by(minute, outcomes.c.variant)
    with database.begin(reads=True) as connection:
        records = sorted(map(tuple, connection.execute(query)), key=lambda row: row[:2])
    return [Moment(60.0 * start, variant, Totals.of(numbers), width) for start, variant, *numbers in records]


def forget(database: Database, experiment: str) -> None:
    """Delete all outcomes of an experiment.

    No other experiment may take its name while a replica runs that has gathered outcomes for it.

    Raises:
        DatabaseLostError: the database cannot be reached.
    """
    with database.begin() as connection:
        connection.execute(delete(outcomes).where(outcomes.c.experiment == experiment))
        connection.execute(delete(units).where(units.c.experiment == experiment))
        connection.execute(delete(answers).where(answers.c.experiment == experiment))


def expire(database: Database, before: float, stopped: Sequence[str]) -> None:
    """Forget the minutes `before` a time, in seconds since 1970, and the users of experiments that are `stopped`.

    The sums over all minutes stay, which is what reports and tests are made of.

    Raises:
        DatabaseLostError: the database cannot be reached.
    """
    minutes = outcomes.c.minute != WHOLE, outcomes.c.minute < int(before // 60)
    with database.begin() as connection:
        connection.execute(delete(outcomes).where(*minutes))
    for experiment in stopped:
        with database.begin() as connection:
            connection.execute(delete(units).where(units.c.experiment == experiment))
