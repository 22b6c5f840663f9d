"""What one replica writes down: outcomes gathered in memory, flushed each second as absolute sums.

A row of the table belongs to one process, so each flush says what the row's sums *are*, never what to add: a flush may
be repeated when nobody knows whether it was committed, and counts once. Of a user who comes again only the first
response stands for them in the tests, and replicas share users, so the database decides who was first, by who wrote
the user's hash.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from service.experiments.outcomes.totals import Outcome, Totals, Value
from service.storage.database import Database
from service.storage.tables import WHOLE, outcomes, units

MOST_ROWS = 5_000
"""Rows in memory, all waiting for a lost database, from which on minutes no longer have rows of their own."""
MOST_PENDING = 100_000
"""Users in memory of whom it is not known yet whether they were counted; the responses of others do not count."""
BATCH = 2_000
"""Users asked for in one transaction: replicas wait for each other where their users meet."""
KNOWN = 50_000
"""Users in memory who were counted, so that the database need not be asked."""
LONGEST_REPLICA = 24

_ZERO = Totals().numbers()

Unit = tuple[str, int]
"""An experiment, and the hash of one of its users."""


class Key(NamedTuple):
    """The primary key of a row of `outcomes`, in its order."""

    experiment: str
    minute: int
    epoch: int
    variant: str
    replica: str
    kind: str


Counted = Outcome | Value
Keys = tuple[Key, Key]
"""The rows that a response belongs to: its minute's, and the one of all minutes."""


class _Row:
    """A row's sums, and which of its changes are in the database."""

    __slots__ = ("changes", "numbers", "pending", "written")

    def __init__(self) -> None:
        self.numbers = list(_ZERO)
        self.changes = 0
        self.written = 0
        self.pending = 0
        """Users who may still be added to it."""


class _Batch(NamedTuple):
    """What one transaction writes."""

    name: str
    users: Mapping[Unit, tuple[Keys, Counted]]
    """Of whom the database is asked whether they were counted before."""
    rows: Mapping[Key, tuple[int, list[float]]]
    """Row → number of its changes so far, and its sums."""
    written: int
    """Responses that are committed once this is."""


class Ledger:
    """The outcomes of this replica. `add` belongs to the event loop, `flush` to a thread; both at once are safe.

    Attributes:
        waiting: responses that are not committed yet.
        overflowed: responses that could not be asked for and so never stand for their unit (`MOST_PENDING`).
    """

    def __init__(self, database: Database, replica: str, clock: Callable[[], float]) -> None:
        """Write nothing yet.

        Args:
            database: where outcomes are kept.
            replica: an id that no process had before.
            clock: seconds since 1970; it may jump.

        Raises:
            ValueError: the id is too long for its column.
        """
        if not 0 < len(replica) <= LONGEST_REPLICA:
            raise ValueError(f"the replica's id {replica!r} must have 1 to {LONGEST_REPLICA} characters")
        self._database = database
        self._replica = replica
        self._clock = clock
        self._minute = self._now()
        self._turns = 0  # how often the clock went back
        self._owner = replica
        self._batches = 0
        self._rows: dict[Key, _Row] = {}
        self._pending: dict[Unit, tuple[Keys, Counted]] = {}
        self._known: OrderedDict[Unit, None] = OrderedDict()
        self._added = 0
        self._written = 0
        self.overflowed = 0
        self._guard = threading.Lock()  # held for microseconds: the event loop waits for it
        self._flushing = threading.Lock()

    @property
    def waiting(self) -> int:
        """Responses that were added and are not committed yet."""
        return self._added - self._written

    def add(self, outcome: Counted) -> None:
        """Count one response, or what became known of one. O(1); never waits for the database."""
        with self._guard:
            self._turn()
            self._added += 1
            self._count(self._keys(outcome, "all"), outcome)
            if not outcome.counted:
                return
            keys = self._keys(outcome, "units")
            if outcome.by_user:
                self._ask_later(keys, outcome)
            else:
                self._count(keys, outcome)

    def flush(self) -> int:
        """Write what changed; return how many responses were committed. Blocking.

        Raises:
            DatabaseLostError: the database cannot be reached; everything is kept for the next flush.
        """
        with self._flushing:
            before = self._written
            for _ in range(1 + max(0, len(self._pending) - 1) // BATCH):
                self._write()
            return self._written - before

    def close(self) -> None:
        """Flush a last time.

        Raises:
            DatabaseLostError: the database cannot be reached; what was not committed is lost with the process.
        """
        self.flush()

    def _now(self) -> int:
        return max(0, int(self._clock() // 60))

    def _turn(self) -> None:
        """Turn to the clock's minute.

        If the clock went back, in rows of another owner: those left behind are no longer in memory, and what comes must
        not overwrite them.
        """
        minute = self._now()
        if minute == self._minute or sum(key.minute != WHOLE for key in self._rows) >= MOST_ROWS:
            return
        if minute < self._minute:
            self._turns += 1
            self._owner = f"{self._replica}.{self._turns}"
        self._minute = minute

    def _keys(self, outcome: Counted, kind: str) -> Keys:
        experiment, epoch, variant = outcome.experiment, outcome.epoch, outcome.variant
        return (
            Key(experiment, self._minute, epoch, variant, self._owner, kind),
            Key(experiment, WHOLE, epoch, variant, self._replica, kind),
        )

    def _row(self, key: Key) -> _Row:
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = _Row()
        return row

    def _count(self, keys: Keys, outcome: Counted) -> None:
        for key in keys:
            row = self._row(key)
            outcome.count_in(row.numbers)
            row.changes += 1

    def _ask_later(self, keys: Keys, outcome: Counted) -> None:
        unit = (outcome.experiment, unit_hash(outcome.experiment, _named(outcome)))
        if unit in self._known:
            self._known.move_to_end(unit)
        elif unit not in self._pending:
            if len(self._pending) >= MOST_PENDING:
                self.overflowed += 1
                return
            self._pending[unit] = keys, outcome
            for key in keys:
                self._row(key).pending += 1

    def _write(self) -> None:
        """One transaction: the rows that changed, and the users who have waited longest."""
        with self._guard:
            batch = self._batch()
        firsts: dict[Key, list[float]] = {}
        if batch.rows:
            with self._database.begin() as connection:
                firsts = _firsts(connection, batch.users, batch.name)
                sums = {key: _sum(numbers, firsts.get(key)) for key, (_, numbers) in batch.rows.items()}
                _upsert(connection, sums)
        with self._guard:
            self._committed(batch, firsts)

    def _batch(self) -> _Batch:
        """What to write next. After a failure these are the same users, or these and more, under the same name."""
        users = dict(islice(self._pending.items(), BATCH))
        asked = {key for keys, _ in users.values() for key in keys}
        rows = {
            key: (row.changes, row.numbers.copy())
            for key, row in self._rows.items()
            if row.changes != row.written or key in asked
        }
        written = self._added - (len(self._pending) - len(users))
        return _Batch(f"{self._replica}-{self._batches}", users, rows, written)

    def _committed(self, batch: _Batch, firsts: Mapping[Key, list[float]]) -> None:
        """Note what is in the database now: rows, users, and sums over first responses."""
        self._batches += 1
        self._written = batch.written
        self._remember(batch.users)
        for key, (changes, _) in batch.rows.items():
            row = self._rows[key]
            row.written = changes
            row.numbers = _sum(row.numbers, firsts.get(key))
        self._forget_minutes()

    def _remember(self, users: Mapping[Unit, tuple[Keys, Counted]]) -> None:
        """Of users who were pending: they were counted, here or by another replica."""
        for unit, (keys, _) in users.items():
            del self._pending[unit]
            for key in keys:
                self._rows[key].pending -= 1
            self._known[unit] = None
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)

    def _forget_minutes(self) -> None:
        """Rows of minutes that are over and written whole need no memory."""
        for key, row in list(self._rows.items()):
            over = key.minute != WHOLE and (key.replica, key.minute) != (self._owner, self._minute)
            if over and row.changes == row.written and not row.pending:
                del self._rows[key]


def _named(outcome: Counted) -> str:
    """The unit's key; what becomes known later has a first of its own."""
    return f"{outcome.what}\0{outcome.unit}" if isinstance(outcome, Value) else outcome.unit


def unit_hash(experiment: str, unit: str) -> int:
    """Of a unit's key, as a signed 64-bit integer; another one in every experiment."""
    text = f"{experiment}\0{unit}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big", signed=True)


def _sum(numbers: list[float], more: list[float] | None) -> list[float]:
    return numbers if more is None else [one + another for one, another in zip(numbers, more, strict=True)]


def _firsts(connection: Connection, batch: Mapping[Unit, tuple[Keys, Counted]], name: str) -> dict[Key, list[float]]:
    """Sums over the first responses of those users whom nobody counted before, by the row that they belong to.

    A user written under this batch's name is new, or was written by this very batch when it was committed unnoticed.
    """
    if not batch:
        return {}
    rows = [{"experiment": experiment, "unit": unit, "batch": name} for experiment, unit in sorted(batch)]
    insert = _insert(connection, units).on_conflict_do_nothing()
    connection.execute(insert, rows)  # sorted, so that replicas wait for each other in turn and never in a circle
    sums: dict[Key, list[float]] = {}
    for experiment, unit in connection.execute(select(units.c.experiment, units.c.unit).where(units.c.batch == name)):
        keys, outcome = batch[experiment, unit]
        for key in keys:
            outcome.count_in(sums.setdefault(key, list(_ZERO)))
    return sums


def _upsert(connection: Connection, rows: Mapping[Key, list[float]]) -> None:
    insert = _insert(connection, outcomes)
    sums = [column.name for column in outcomes.columns if not column.primary_key]
    upsert = insert.on_conflict_do_update(
        index_elements=outcomes.primary_key.columns, set_={name: insert.excluded[name] for name in sums}
    )
    columns = outcomes.columns.keys()
    connection.execute(upsert, [dict(zip(columns, (*key, *numbers), strict=True)) for key, numbers in rows.items()])


def _insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
