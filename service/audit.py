"""The audit: who changed what, and when. Written in the same transaction as the change itself."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from sqlalchemy import Connection, insert, select

from service.database import Database
from service.tables import audit as table

WHO: ContextVar[str] = ContextVar("excise_who", default="server")
"""Who asked for what happens now: set by the gateway; ``server`` where nobody did."""


def write(
    connection: Connection,
    action: str,
    subject: str,
    *,
    before: Any = None,
    after: Any = None,
    reason: str = "",
    warnings: Iterable[str] = (),
) -> None:
    """Add an entry. ``before`` and ``after`` are JSON. ``warnings``, a line each, are what a change was made in spite
    of: they follow the reason.
    """
    told = [*([reason] if reason else []), *(f"warning: {each}" for each in warnings)]
    connection.execute(
        insert(table).values(
            at=time.time(),
            who=WHO.get(),
            action=action,
            subject=subject,
            before=before,
            after=after,
            reason="\n".join(told) or None,
        )
    )


def entries(database: Database, *, before: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """The newest entries first; ``before`` is the ``id`` of the last entry of the page before."""
    newest = select(table).order_by(table.c.id.desc()).limit(limit)
    if before is not None:
        newest = newest.where(table.c.id < before)
    with database.begin(reads=True) as connection:
        return [dict(row._mapping) for row in connection.execute(newest)]
