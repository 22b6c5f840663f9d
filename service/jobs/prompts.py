"""Candidate prompts for a correction: what flagged responses were said to, as far as the operator keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import case, select

from service.storage.database import Database
from service.storage.tables import flagged, labels

CONFIRMED, REJECTED = "confirmed", "false alarm"
"""Labels of `PUT /flagged/{id}`: the first come first, the second never come."""


@dataclass(frozen=True)
class Candidate:
    """A prompt whose response was flagged. Both redacted."""

    prompt: str
    response: str
    mask: str
    score: float
    label: str | None
    at: float


def candidates(database: Database, shows: str, limit: int) -> list[Candidate]:
    """At most `limit` distinct prompts whose responses were flagged for `shows`, the confirmed ones first.

    Then the newest first. What a person called a false alarm counts for its prompt too: it is left out altogether.
    Blocking. Raises `DatabaseLostError`.
    """
    both = flagged.outerjoin(labels, labels.c.flagged == flagged.c.id)
    columns = flagged.c.prompt, flagged.c.text, flagged.c.mask, flagged.c.score, labels.c.label, flagged.c.at
    wanted = select(*columns).select_from(both).where(flagged.c.prompt.is_not(None), flagged.c.shows == shows)
    order = case((labels.c.label == REJECTED, 0), (labels.c.label == CONFIRMED, 1), else_=2)
    with database.begin(reads=True) as connection:
        rows = connection.execute(wanted.order_by(order, flagged.c.id.desc())).all()
    candidate_by_prompt: dict[str, Candidate | None] = {}
    for row in rows:
        candidate = None if row.label == REJECTED else Candidate(*row)
        candidate_by_prompt.setdefault(" ".join(row.prompt.casefold().split()), candidate)
    return [each for each in candidate_by_prompt.values() if each][:limit]
