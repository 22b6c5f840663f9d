"""Answers: which variant gave a response, for as long as feedback on it is taken.

A response's id may hold what a client chose, so a hash of it is kept; of the user, one too. Each second what came is
written, so that the feedback may come to any replica.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from sqlalchemy import delete, insert, select, update

from service.errors import ConflictError, NotFoundError
from service.experiments.outcomes.totals import Origin
from service.scoring.response import Response
from service.storage.database import Database
from service.storage.tables import answers

MOST_WAITING = 20_000
"""Responses in memory while the database is lost; the newest push out the oldest."""
_AT_ONCE = 500
_HOUR = 3600.0


@dataclass(frozen=True)
class Answer(Origin):
    """Where a response belongs; `unit` is a hash of the unit's key."""


class Answers:
    """The responses of experiments that feedback may be given on. `put` never blocks; the rest belongs to threads."""

    def __init__(self, database: Database, hours: float, clock: Callable[[], float]) -> None:
        """Read and write nothing yet.

        Args:
            database: where answers are kept.
            hours: for which a response is remembered; 0: none is.
            clock: seconds since 1970.
        """
        self._database, self._hours, self._clock = database, hours, clock
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MOST_WAITING)
        self._writing = threading.Lock()

    def put(self, response: Response) -> None:
        """Remember a response of an experiment; copies, which nobody sees, have no id."""
        where = response.assigned
        if not self._hours or where is None or not response.id or not response.counted:
            return
        self._waiting.append(
            {
                "id": _hash(response.id),
                "at": self._clock(),
                "experiment": where.experiment,
                "epoch": where.epoch,
                "variant": where.variant,
                "unit": _hash(f"{where.experiment}\0{where.unit}"),
                "counted": where.counted,
                "by_user": where.by_user,
            }
        )

    def write(self) -> None:
        """Write what waits.

        Raises:
            DatabaseLostError: the database cannot be reached; what waits is kept.
        """
        with self._writing:
            rows = list(self._waiting)
            if not rows:
                return
            batch = {row["id"]: row for row in rows}  # a client may choose an id twice: the last one counts
            ids = list(batch)
            with self._database.begin() as connection:
                for start in range(0, len(ids), _AT_ONCE):
                    part = ids[start : start + _AT_ONCE]
                    connection.execute(delete(answers).where(answers.c.id.in_(part)))
                    connection.execute(insert(answers), [batch[each] for each in part])
            written = {id(row) for row in rows}
            while self._waiting and id(self._waiting[0]) in written:  # a full deque has let some go by itself
                self._waiting.popleft()

    def rate(self, response: str, value: float) -> Answer:
        """Note feedback on a response, −1 to 1, once. Returns whose it was.

        Raises:
            NotFoundError: the id is not known, or no longer.
            ConflictError: feedback was given.
        """
        self.write()
        chosen = answers.c.id == _hash(response)
        recent = answers.c.at >= self._clock() - self._hours * _HOUR
        columns = (answers.c.experiment, answers.c.epoch, answers.c.variant, answers.c.unit)
        with self._database.begin() as connection:
            row = connection.execute(
                select(*columns, answers.c.counted, answers.c.by_user).where(chosen, recent)
            ).one_or_none()
            if row is None:
                raise NotFoundError(
                    f"no response of an experiment in the last {self._hours:g} hours has this id; give the 'id' of the "
                    "response's body (a response that was cut short by its client has none to give)",
                    code="response_not_found",
                    param="id",
                )
            given = update(answers).where(chosen, answers.c.feedback.is_(None)).values(feedback=value)
            if not connection.execute(given).rowcount:
                raise ConflictError("feedback on this response was given; the first counts", code="feedback_given")
        return Answer(*row)

    def expire(self) -> None:
        """Forget what is too old.

        Raises:
            DatabaseLostError: the database cannot be reached.
        """
        with self._database.begin() as connection:
            connection.execute(delete(answers).where(answers.c.at < self._clock() - self._hours * _HOUR))


def _hash(text: str) -> str:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
