"""Traffic: what every mask answers over time, in an experiment or not. Sums by minute, of all replicas.

Kept as outcomes of an experiment without a name, whose variants are the masks' labels, by a ledger of its own: so they
are written, added up and forgotten like those of experiments, and mix with none of them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from service.experiments.outcomes.ledger import Ledger
from service.experiments.outcomes.queries import Moment, course
from service.experiments.outcomes.totals import LONGEST_NAME, Outcome, Value
from service.experiments.report.time_course import width
from service.scoring.response import Response, Scored
from service.storage.database import Database

NOBODY = ""
"""The experiment of this traffic: no experiment has an empty name."""


class Traffic:
    """Counts the responses of one replica by mask. ``scored`` and ``judged`` never wait; the rest blocks."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        """``clock``: seconds since 1970."""
        self._database, self._clock = database, clock
        self._ledger = Ledger(database, secrets.token_hex(8), clock)

    def scored(self, scored: Scored) -> None:
        """A response has been scored, or will never be."""
        response = scored.response
        self._ledger.add(
            Outcome(
                **_origin(response),
                truncated=response.truncated,
                tokens=len(response.tokens),
                seconds=response.seconds,
                toxic=scored.toxic,
                repetitive=scored.repetitive,
                refusal=scored.refusal,
            )
        )

    def judged(self, response: Response, coherence: float) -> None:
        """The coherence of a response has become known, in nats a token."""
        self._ledger.add(Value(**_origin(response), what="coherence", value=coherence))

    def flush(self) -> None:
        """Write what changed. Raises ``DatabaseLostError``; then it is kept for the next time."""
        if self._ledger.waiting:
            self._ledger.flush()

    def read(self, hours: float) -> list[Moment]:
        """The last ``hours``, by time and mask (``Moment.variant``), in at most 48 points of each.

        Raises ``DatabaseLostError``.
        """
        now = self._clock()
        since = now - 3600 * hours
        return course(self._database, NOBODY, width(since, now), since)


def _origin(response: Response) -> dict[str, Any]:
    label = response.mask if len(response.mask) <= LONGEST_NAME else "other"
    return {"experiment": NOBODY, "epoch": 0, "variant": label, "unit": "", "counted": False, "by_user": False}
