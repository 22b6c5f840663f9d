"""Flagged responses, kept for review where the operator asks for it: redacted, the last few, for some days."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, insert, select

from service.errors import NotFoundError
from service.scoring.redaction import WINDOW, redacted
from service.scoring.response import Scored
from service.storage import audit
from service.storage.database import Database, DatabaseLostError
from service.storage.tables import flagged, labels

_log = logging.getLogger(__name__)

_PRUNE_EVERY = 3600.0
"""Seconds: what has grown old goes, whether new ones come or not."""
_MOST_WAITING = 1000
_DAY = 86400.0


@dataclass(frozen=True)
class Flag:
    """One response that was flagged, as it is kept."""

    at: float
    """Unix time."""
    mask: str
    experiment: str | None
    variant: str | None
    score: float
    text: str
    """Redacted and shortened."""


@dataclass(frozen=True)
class Kept:
    """A flagged response in the database, and what a person said of it."""

    id: int
    flag: Flag
    label: str | None


class Flagged:
    """Keeps the last flagged responses in the database. Writing never holds scoring up; a lost database loses them.

    With ``keep`` 0 nothing is ever written; what an earlier run has kept still goes when its days are over.
    """

    def __init__(self, database: Database, keep: int, days: float, clock: Callable[[], float] = time.time) -> None:
        """Keep at most ``keep`` responses, of all replicas together, and none longer than ``days``."""
        self._database, self._keep, self._days, self._clock = database, keep, days, clock
        self._waiting: deque[Flag] = deque(maxlen=min(keep, _MOST_WAITING))  # the newest push out the oldest
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to write on the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="excise-flagged")

    def put(self, scored: Scored) -> None:
        """Keep a response if it is flagged, that is toxic; never blocks."""
        if not self._keep or not scored.toxic or scored.toxicity is None:
            return
        response, where = scored.response, scored.response.assigned
        experiment, variant = (where.experiment, where.variant) if where else (None, None)
        text = response.text[: WINDOW + 1]  # as it is: redacting has a cost, and the thread that writes does it
        flag = Flag(self._clock(), response.mask, experiment, variant, scored.toxicity, text)
        self._waiting.append(flag)
        self._idle.clear()
        self._arrived.set()

    def latest(self, count: int = 100) -> list[Flag]:
        """The newest first. Blocking. Raises ``DatabaseLostError``."""
        columns = (flagged.c.at, flagged.c.mask, flagged.c.experiment, flagged.c.variant)
        chosen = select(*columns, flagged.c.score, flagged.c.text).order_by(flagged.c.id.desc()).limit(count)
        with self._database.begin(reads=True) as connection:
            return [Flag(*row) for row in connection.execute(chosen)]

    def kept(self, count: int = 100) -> list[Kept]:
        """The same with their ids and labels. Blocking. Raises ``DatabaseLostError``."""
        both = flagged.outerjoin(labels, labels.c.flagged == flagged.c.id)
        columns = (flagged.c.at, flagged.c.mask, flagged.c.experiment, flagged.c.variant, flagged.c.score)
        chosen = select(flagged.c.id, labels.c.label, *columns, flagged.c.text).select_from(both)
        with self._database.begin(reads=True) as connection:
            rows = connection.execute(chosen.order_by(flagged.c.id.desc()).limit(count)).all()
        return [Kept(number, Flag(*row), label) for number, label, *row in rows]

    def label(self, number: int, label: str | None) -> None:
        """Say what a person thinks of one; None takes it back. Blocking. Raises ``ServiceError``."""
        with self._database.begin() as connection:
            if connection.scalar(select(flagged.c.id).where(flagged.c.id == number)) is None:
                raise NotFoundError(f"no flagged response {number} is kept", code="flagged_not_found", param="id")
            before = connection.scalar(select(labels.c.label).where(labels.c.flagged == number))
            connection.execute(delete(labels).where(labels.c.flagged == number))
            if label:
                said = {"flagged": number, "label": label, "who": audit.WHO.get(), "at": self._clock()}
                connection.execute(insert(labels).values(**said))
            audit.write(connection, "label flagged", f"flagged {number}", before=before, after=label)

    async def clear(self) -> int:
        """Delete all, also what waits here to be written. Returns how many were kept. Raises ``DatabaseLostError``."""
        async with self._writing:  # what is being written comes first, so that none comes after
            self._waiting.clear()
            return await asyncio.to_thread(self._delete)

    def _delete(self) -> int:
        with self._database.begin() as connection:
            count = connection.scalar(select(func.count()).select_from(flagged)) or 0
            connection.execute(delete(flagged))
            connection.execute(delete(labels))
            audit.write(connection, "delete flagged", "flagged", before={"kept": count})
        return count

    async def close(self, limit: float = 2.0) -> None:
        """Write what is waiting, for at most ``limit`` seconds."""
        if self._task:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), limit)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            async with self._writing:
                await self._write_waiting()
            if self._waiting:
                continue
            self._idle.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), _PRUNE_EVERY)

    async def _write_waiting(self) -> None:
        batch = list(self._waiting)
        self._waiting.clear()
        self._arrived.clear()
        try:
            await asyncio.to_thread(self.write, batch)
        except DatabaseLostError as error:
            _log.warning("%d flagged responses are not kept: %s", len(batch), error)
        except Exception:
            _log.exception("%d flagged responses are not kept", len(batch))

    def write(self, batch: Sequence[Flag]) -> None:
        """Write responses, redacted, and delete what is too old or too much. Blocking. Raises ``DatabaseLostError``."""
        rows = [{**vars(flag), "text": redacted(flag.text)} for flag in batch]
        oldest = select(flagged.c.id).order_by(flagged.c.id.desc()).offset(self._keep).limit(1)
        with self._database.begin() as connection:
            if rows:
                connection.execute(insert(flagged), rows)
            connection.execute(delete(flagged).where(flagged.c.at < self._clock() - self._days * _DAY))
            if self._keep:
                connection.execute(delete(flagged).where(flagged.c.id <= oldest.scalar_subquery()))
            connection.execute(delete(labels).where(labels.c.flagged.not_in(select(flagged.c.id))))
