"""The history of the tables in `service.storage.tables`, for Alembic: each revision under `versions/` is a step of it.

A change of the tables is a new revision; those before stay as they are.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

_ADOPTED = {1: "0001", 2: "0002"}
"""The number in the table `schema`, which came before Alembic → the revision that has the same tables."""

_ONE_AT_A_TIME = threading.Lock()
"""Alembic's `op` belongs to the process, not to a connection."""

_log = logging.getLogger(__name__)


class SchemaError(RuntimeError):
    """The tables are none that can be migrated: of a newer Excise, or from before the first revision."""


def upgrade(connection: Connection) -> None:
    """Bring the tables to the newest revision, in the transaction that the caller has begun and commits.

    Nobody else may do so at the same time: the caller holds a lock. Raises `SchemaError`, and SQLAlchemy's errors.
    """
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    context = MigrationContext.configure(connection)
    _adopt(connection, context, scripts)
    revision, newest = context.get_current_revision(), scripts.get_current_head()
    if revision == newest:
        return
    known = [script.revision for script in scripts.walk_revisions()]
    if revision is not None and revision not in known:
        raise SchemaError(
            f"was changed by a newer Excise (revision {revision}; this one knows none after {newest}); "
            "use that version of Excise, or another database"
        )
    with _ONE_AT_A_TIME:
        command.upgrade(config, "head")
    if revision is not None:
        _log.info("the database was migrated from revision %s to %s", revision, newest)


def _adopt(connection: Connection, context: MigrationContext, scripts: ScriptDirectory) -> None:
    """Give tables that were made without Alembic the revision that they have."""
    there = inspect(connection)
    if there.has_table("schema"):
        version = connection.scalar(text("SELECT version FROM schema"))
        if version not in _ADOPTED:
            raise SchemaError(f"has tables of the unknown version {version}; use another database")
        context.stamp(scripts, _ADOPTED[version])
        connection.execute(text("DROP TABLE schema"))
    elif there.has_table("masks") and not there.has_table("alembic_version"):
        raise SchemaError("has tables from before they had versions, which cannot be migrated; use another database")
