"""The audit: who changed what, and when. Written in the same transaction as the change itself, then logged."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from sqlalchemy import Connection, insert, select

from service import logs
from service.storage.database import Database
from service.storage.tables import audit as table

_log = logging.getLogger("service.audit")

WHO: ContextVar[str] = ContextVar("excise_who", default="server")
"""Who asked for what happens now: set by the gateway; `server` where nobody did."""


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
    """Add an entry.

    `before` and `after` are JSON. `warnings`, a line each, are what a change was made in spite of: they follow the
    reason.
    """
    lines = [*([reason] if reason else []), *(f"warning: {each}" for each in warnings)]
    entry = {"who": WHO.get(), "action": action, "subject": subject, "before": before, "after": after}
    entry["reason"] = "\n".join(lines) or None
    connection.execute(insert(table).values(at=time.time(), **entry))
    committed = connection.get_execution_options().get("committed")
    if committed is not None:
        committed.append(functools.partial(_log_entry, entry))


def _log_entry(entry: dict[str, Any]) -> None:
    """One line: `set route, by key 3f9a01bc: base -> detox@1`."""
    action, subject = entry["action"], entry["subject"]
    first, _, rest = subject.partition(" ")
    what = " ".join(filter(None, (action, rest if action.endswith(f" {first}") else subject)))
    change = " -> ".join(filter(None, (_short(entry["before"]), _short(entry["after"]))))
    why = (entry["reason"] or "").replace("\n", "; ")
    details = "; ".join(filter(None, (change, why)))
    _log.info("%s, by %s%s", what, entry["who"], f": {details}" if details else "", extra={logs.FIELDS: entry})


def _short(value: Any) -> str:
    """A target as it is; of a document, what tells it from another."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {value[key]}" for key in ("digest", "revision", "status", "kept") if key in value)
    return "" if value is None else str(value)


def entries(database: Database, *, before: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """The newest entries first; `before` is the `id` of the last entry of the page before."""
    newest = select(table).order_by(table.c.id.desc()).limit(limit)
    if before is not None:
        newest = newest.where(table.c.id < before)
    with database.begin(reads=True) as connection:
        return [dict(row._mapping) for row in connection.execute(newest)]
