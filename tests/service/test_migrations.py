"""Older databases are migrated with what is in them, newer ones left alone. Real SQLite, real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing, contextmanager

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, insert, inspect, select, text

from service.storage import tables
from service.storage.database import Database, DatabaseError
from tests.service import tables_of_version_1 as old
from tests.service.server import ROOT

NEWEST = "0004"

OPENER = """
import os, signal, sys
from sqlalchemy import Engine, event
from service.storage.database import Database

@event.listens_for(Engine, "before_cursor_execute")
def die(connection, cursor, statement, *_):
    if sys.argv[2] and sys.argv[2] in statement:
        os.kill(os.getpid(), signal.SIGKILL)

Database(sys.argv[1]).close()
"""

ROWS = {
    old.schema: [{"id": 1, "version": 1}],
    old.changes: [{"id": 1, "number": 7, "masks": 2}],
    old.masks: [
        {
            "digest": "d" * 64,
            "name": "detox",
            "version": 1,
            "size": 123,
            "registered_at": "2026-11-22T10:00:00Z",
            "description": {"counts": {"neuron": 3}, "measured": {}},
            "deleted": False,
        }
    ],
    old.pointers: [{"name": "route", "targets": ["base", "detox@1"]}],
    old.experiments: [{"name": "first", "revision": 3, "document": {"name": "first", "shares": [{"a": 0.5}]}}],
    old.audit: [
        {"id": 1, "at": 1.5, "who": "admin 1", "action": "set route", "subject": "route", "before": "base", "after": 1}
    ],
    old.outcomes: [
        {
            **{name: number for number, name in enumerate(old.STATISTICS)},
            **{f"latency_{bucket}": bucket for bucket in range(old.BUCKETS)},
            "experiment": "first",
            "minute": minute,
            "epoch": 0,
            "variant": "a",
            "replica": "r",
            "kind": "all",
        }
        for minute in (-1, 29_000_000)
    ],
    old.units: [{"experiment": "first", "unit": -(2**62), "batch": "b"}],
    old.flagged: [{"at": 1.0, "mask": "detox@1", "experiment": None, "variant": None, "score": 0.97, "text": "…"}],
}


def make_old(url: str, version: int = 1) -> None:
    """A database of version 1 with a row or two in each table."""
    with raw(url) as connection:
        old.metadata.create_all(connection)
        for table, rows in ROWS.items():
            connection.execute(insert(table), rows)
        connection.execute(old.schema.update().values(version=version))


def contents(url: str) -> dict[str, list[dict]]:
    """Rows of every table of today that version 1 had as well."""
    rows_by_table = {}
    with closing(Database(url)) as database, database.begin(reads=True) as connection:
        for table in tables.metadata.sorted_tables:
            if table.name in old.metadata.tables:
                rows_by_table[table.name] = [dict(row._mapping) for row in connection.execute(select(table))]
    return rows_by_table


@contextmanager
def raw(url: str):
    """A connection in a transaction, past `Database`."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def revision(url: str) -> str:
    with raw(url) as connection:
        return connection.scalar(text("SELECT version_num FROM alembic_version"))


def names(url: str) -> list[str]:
    with raw(url) as connection:
        return inspect(connection).get_table_names()


def check_migrated(url: str) -> None:
    """Every row is as it was; what was not counted then is 0."""
    rows_by_table = contents(url)
    later = set(tables.STATISTICS) - set(old.STATISTICS)
    assert len(later) == 7
    for table, rows in ROWS.items():
        if table is old.schema:
            continue
        assert len(rows_by_table[table.name]) == len(rows)
        for row, before in zip(rows_by_table[table.name], rows, strict=True):
            assert {name: row[name] for name in before} == before
    for row in rows_by_table["outcomes"]:
        assert {name: row[name] for name in later} == dict.fromkeys(later, 0)
    assert revision(url) == NEWEST


def check_tables(url: str) -> None:
    """The tables are those of `service.storage.tables`, and no others."""
    with closing(Database(url)) as database, database.begin(reads=True) as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_the_revisions_make_the_tables_of_today(database_url):
    check_tables(database_url)
    assert revision(database_url) == NEWEST


def test_an_older_database_is_migrated_and_keeps_every_row(database_url):
    make_old(database_url)
    check_migrated(database_url)
    check_tables(database_url)
    assert "schema" not in names(database_url)
    with closing(Database(database_url)) as database:
        assert database.number() == 7


def test_a_database_of_version_2_is_adopted_as_it_is(database_url):
    with closing(Database(database_url)) as database, database.change() as connection:
        old.schema.create(connection)
        connection.execute(insert(old.schema).values(id=1, version=2))
        connection.execute(text("DROP TABLE alembic_version"))
        for came_later in ("TABLE jobs", "TABLE labels", "COLUMN prompt", "COLUMN shows"):
            connection.execute(text(f"{'ALTER TABLE flagged ' * ('COLUMN' in came_later)}DROP {came_later}"))
    with closing(Database(database_url)) as database:
        assert database.number() == 1
    check_tables(database_url)


@pytest.mark.parametrize("at", ["ADD COLUMN coherence ", "CREATE TABLE answers", "UPDATE alembic_version"])
def test_a_migration_that_is_killed_in_the_middle_goes_on_at_the_next_start(database_url, at):
    make_old(database_url)
    run = subprocess.run([sys.executable, "-c", OPENER, database_url, at], cwd=ROOT, timeout=60)
    assert run.returncode == -9
    assert "answers" not in names(database_url)
    with raw(database_url) as connection:
        assert connection.scalar(select(old.schema.c.version)) == 1
    check_migrated(database_url)


def test_several_processes_that_open_an_older_database_at_once_migrate_it_once(database_url):
    make_old(database_url)
    command = [sys.executable, "-W", "error", "-c", OPENER, database_url, ""]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 0
    check_migrated(database_url)


def test_a_server_of_the_version_before_may_go_on_writing_outcomes(database_url):
    make_old(database_url)
    Database(database_url).close()
    with raw(database_url) as connection:
        connection.execute(insert(old.outcomes).values({**ROWS[old.outcomes][0], "variant": "b"}))
    assert len(contents(database_url)["outcomes"]) == 3


def test_a_newer_database_is_left_alone(database_url):
    Database(database_url).close()
    with raw(database_url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0099'"))
    with pytest.raises(DatabaseError, match=rf"newer Excise \(revision 0099; this one knows none after {NEWEST}\)"):
        Database(database_url)
    assert revision(database_url) == "0099"


@pytest.mark.parametrize("version", [0, 3])
def test_a_version_that_never_was_is_left_alone(database_url, version):
    make_old(database_url, version)
    with pytest.raises(DatabaseError, match=f"tables of the unknown version {version}; use another"):
        Database(database_url)


def test_tables_from_before_versions_are_left_alone(database_url):
    with raw(database_url) as connection:
        connection.execute(text("CREATE TABLE masks (digest VARCHAR(64) PRIMARY KEY, name VARCHAR(64))"))
    with pytest.raises(DatabaseError, match="before they had versions"):
        Database(database_url)
    assert names(database_url) == ["masks"]
