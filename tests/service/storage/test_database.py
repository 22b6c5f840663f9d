"""The database: opened by URL, by several processes at once, lost and found again. Real SQLite, real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import insert, inspect, select
from sqlalchemy.exc import DataError, IntegrityError

from service.storage import tables
from service.storage.database import Database, DatabaseError, DatabaseLostError, DatabaseMovedError
from tests.service.server import ROOT

OPENER = """
import sys
from service.storage.database import Database
for line in sys.stdin:
    url, changes = line.split()
    database = Database(url)
    for _ in range(int(changes)):
        with database.change():
            pass
    database.close()
    print("done", flush=True)
"""


@pytest.fixture
def opened():
    """Opens databases and closes them at the end."""
    databases: list[Database] = []

    def open_(url: str) -> Database:
        databases.append(Database(url))
        return databases[-1]

    yield open_
    for database in databases:
        database.close()


@pytest.fixture
def processes():
    """Three that open the database that they are told, when they are told."""
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", OPENER],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    yield started
    for process in started:
        process.kill()
        process.communicate()


def tell(processes, url: str, changes: int) -> None:
    """All of them at once; wait until each is done."""
    for process in processes:
        process.stdin.write(f"{url} {changes}\n")
    for process in processes:
        process.stdin.flush()
    for process in processes:
        assert process.stdout.readline() == "done\n", process.stderr.read()


def test_a_new_database_has_its_tables_and_a_known_one_keeps_what_is_in_it(opened, database_url):
    database = opened(database_url)
    assert set(inspect(database.engine).get_table_names()) == {*tables.metadata.tables, "alembic_version"}
    assert database.number() == 0
    with database.change():
        pass
    assert opened(database_url).number() == 1


def test_a_change_raises_the_number_once_and_that_of_masks_only_where_asked(opened, database_url):
    database = opened(database_url)
    with database.change(), database.begin(reads=True) as other:
        assert other.scalar(select(tables.changes.c.number)) == 0
    with database.change(masks=True):
        pass
    with database.begin(reads=True) as connection:
        assert connection.execute(select(tables.changes)).one() == (1, 2, 1)


def test_a_change_that_fails_changes_nothing(opened, database_url):
    database = opened(database_url)
    with pytest.raises(RuntimeError, match="on the way"), database.change(masks=True):
        raise RuntimeError("on the way")
    assert database.number() == 0


def test_who_reads_sees_one_moment_and_waits_for_nobody(opened, database_url):
    database = opened(database_url)
    with database.begin(reads=True) as reader:
        assert reader.scalar(select(tables.changes.c.number)) == 0
        with database.change():
            assert reader.scalar(select(tables.changes.c.number)) == 0
        assert reader.scalar(select(tables.changes.c.number)) == 0
    assert database.number() == 1


def test_changes_of_many_threads_happen_one_after_the_other(opened, database_url):
    database = opened(database_url)
    seen: list[int] = []

    def changes() -> None:
        for _ in range(10):
            with database.change() as connection:
                seen.append(connection.scalar(select(tables.changes.c.number)))

    threads = [threading.Thread(target=changes) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == list(range(1, 41))


def test_several_processes_open_a_new_sqlite_at_the_same_moment_and_lose_no_change(opened, processes, tmp_path):
    for number in range(8):
        url = f"sqlite:///{tmp_path / f'{number}.db'}"
        tell(processes, url, 5)
        assert opened(url).number() == 15


def test_several_processes_open_a_new_postgresql_at_the_same_moment_and_lose_no_change(opened, processes, postgres):
    for _ in range(8):
        url = postgres.url()
        tell(processes, url, 5)
        database = opened(url)
        assert database.number() == 15
        database.close()
        postgres.drop(url)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_may_be_named_without_its_driver(opened, postgres_url, scheme):
    database = opened(scheme + "://" + postgres_url.partition("://")[2])
    assert database.engine.dialect.driver == "psycopg"
    assert database.number() == 0


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://me:secret@host/db", "mysql is not supported"),
        ("postgresql+nodriver://me:secret@host/db", "driver"),
        ("postgresql://me:secret@host:port/db", "is no SQLAlchemy URL"),
        ("postgresql://me:secret@127.0.0.1:1/db", "cannot be used"),
        ("me:secret", "is no SQLAlchemy URL"),
        ("", "is no SQLAlchemy URL"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:////nowhere/at/all/excise.db", "unable to open"),
    ],
)
def test_a_url_that_cannot_be_used_says_why_and_never_shows_the_password(url, says):
    with pytest.raises(DatabaseError, match=says) as caught:
        Database(url)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "excise.db").write_text("no database at all, but long enough to be looked at " * 40)
    with pytest.raises(DatabaseError, match="not a database"):
        Database(f"sqlite:///{tmp_path / 'excise.db'}")


def test_a_wrong_password_is_refused_and_not_shown(postgres, postgres_url):
    rules = Path(postgres.folder) / "data" / "pg_hba.conf"
    before = rules.read_text()
    postgres.sql("CREATE ROLE locked LOGIN PASSWORD 'right'")
    try:
        rules.write_text("local all locked scram-sha-256\n" + before)
        postgres.sql("SELECT pg_reload_conf()")
        url = postgres_url.replace("test@", "locked:wrong-secret@")
        with pytest.raises(DatabaseError, match="password authentication failed") as caught:
            Database(url)
        assert "wrong-secret" not in str(caught.value)
    finally:
        rules.write_text(before)
        postgres.sql("SELECT pg_reload_conf()")
        postgres.sql("DROP ROLE locked")


def test_a_wrong_statement_is_no_lost_database(opened, database_url):
    database = opened(database_url)
    with pytest.raises(IntegrityError), database.begin() as connection:
        connection.execute(insert(tables.changes).values(id=1, number=0, masks=0))
    if database.engine.dialect.name == "postgresql":
        with pytest.raises(DataError), database.begin() as connection:
            connection.execute(select(tables.masks).where(tables.masks.c.version < 2**53))


def test_a_killed_server_is_told_and_a_new_one_is_found(opened, postgres, postgres_url):
    database = opened(postgres_url)
    with database.change():
        pass
    postgres.kill()
    try:
        for _ in range(3):
            with pytest.raises(DatabaseLostError) as caught:
                database.number()
        assert (caught.value.status, caught.value.code) == (503, "database_lost")
        with pytest.raises(DatabaseLostError), database.change():
            pass
    finally:
        postgres.start()
    assert database.number() == 1


def test_a_server_killed_within_a_change_changes_nothing(opened, postgres, postgres_url):
    database = opened(postgres_url)
    try:
        with pytest.raises(DatabaseLostError), database.change():
            postgres.kill()
    finally:
        postgres.start()
    assert database.number() == 0


@pytest.mark.parametrize("closed", [False, True])
def test_a_sqlite_file_that_is_away_is_told_and_found_again(opened, tmp_path, closed):
    folder = tmp_path / "disk"
    folder.mkdir()
    path = folder / "excise.db"
    database = opened(f"sqlite:///{path}")
    assert database.number() == 0
    if closed:
        database.close()  # so that it has to be opened anew
    folder.rename(tmp_path / "away")
    with pytest.raises(DatabaseMovedError, match=f"the database {path} was moved or deleted") as caught:
        database.number()
    assert (caught.value.code, caught.value.status) == ("database_moved", 503)
    folder.mkdir()
    with pytest.raises(DatabaseMovedError), database.change():
        pytest.fail("a change goes nowhere")
    assert not path.exists()  # no empty one in its place
    folder.rmdir()
    (tmp_path / "away").rename(folder)
    assert database.number() == 0


def test_another_sqlite_file_in_the_place_of_the_one_that_was_opened_is_told(opened, tmp_path):
    path = tmp_path / "excise.db"
    database = opened(f"sqlite:///{path}")
    with database.change():
        pass
    other = opened(f"sqlite:///{tmp_path / 'backup.db'}")
    other.close()
    kept = [(tmp_path / f"excise.db{part}", tmp_path / f"old.db{part}") for part in ("", "-wal", "-shm")]
    for file, aside in kept:
        file.rename(aside)
    (tmp_path / "backup.db").rename(path)
    for _ in range(2):
        with pytest.raises(DatabaseMovedError, match="is another file than before"), database.change():
            pytest.fail("a change goes nowhere")
    restarted = opened(f"sqlite:///{path}")
    assert restarted.number() == 0
    restarted.close()
    for file, aside in kept:
        aside.rename(file)
    assert database.number() == 1


def test_a_sqlite_file_may_be_named_from_where_the_server_was_started(opened, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    database = opened("sqlite:///excise.db")
    monkeypatch.chdir("/")
    assert database.number() == 0


def test_a_writer_waits_for_another_and_gives_up_at_last(opened, database_url, monkeypatch):
    other = opened(database_url)
    monkeypatch.setattr("service.storage.database._WAIT", 50)
    database = opened(database_url)
    with other.change(), pytest.raises(DatabaseLostError, match="lock"), database.change():
        pass
    assert database.number() == 1
