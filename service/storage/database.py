"""The database: SQLite by default, PostgreSQL by URL. One place that knows how each is opened and how it fails."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, select, text, update
from sqlalchemy.exc import ArgumentError, InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service import migrations
from service.errors import UnavailableError
from service.storage.tables import changes

_OPENING = 0x657863697365
"""Of PostgreSQL's advisory lock: replicas that open a new or older database migrate it one after the other."""

_PATIENCE: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""libpq's: a server whose machine is gone without a word is given up after seconds, not after a quarter of an hour."""

_WAIT = 10_000
"""Milliseconds for which a writer waits for another, which may have been stopped in the middle."""


class DatabaseError(RuntimeError):
    """The database cannot be opened; the message says which and why."""


class DatabaseLostError(UnavailableError):
    """The database does not answer. What only reads what is known goes on; what would change something fails."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the database does not answer, so nothing can be changed or looked up now: {reason}", code="database_lost"
        )


class DatabaseMovedError(DatabaseLostError):
    """SQLite's file is no longer where it was. Its open connections would go on writing where nobody looks."""

    def __init__(self, path: Path, what: str) -> None:
        UnavailableError.__init__(
            self,
            f"the database {path} {what}, so nothing can be changed or looked up now. Put the file back that this "
            "server opened; to go on with another, stop the server first, and leave no -wal or -shm of the old one",
            code="database_moved",
        )


class Database:
    """Connections to one database, its tables those of `service.storage.tables`. Blocking: call it from a thread."""

    def __init__(self, url: str) -> None:
        """Open `url` (SQLAlchemy's form), new or of this Excise or of an older. Raises `DatabaseError`."""
        try:
            self.engine = _connect(_parsed(url))
        except (ArgumentError, ImportError) as error:
            raise DatabaseError(f"the database's driver is missing: {error}; PostgreSQL is postgresql://…") from error
        self._place: _Place | None = None
        self._readers = self.engine.execution_options(reads=True)
        if self.engine.dialect.name == "postgresql":  # one moment for all that a transaction reads
            self._readers = self._readers.execution_options(isolation_level="REPEATABLE READ")
        try:
            with self.engine.begin() as connection:
                if connection.dialect.name == "postgresql":  # SQLite's transaction is alone with the file anyway
                    connection.execute(text("SET LOCAL lock_timeout = 0"))  # a migration takes as long as it takes
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _OPENING})
                    connection.execute(text(f"SET LOCAL lock_timeout = {_WAIT}"))
                migrations.upgrade(connection)
        except SQLAlchemyError as error:
            self.close()
            raise DatabaseError(f"the database {self.name} cannot be used: {_reason(error)}") from error
        except migrations.SchemaError as error:
            self.close()
            raise DatabaseError(f"the database {self.name} {error}") from None
        if self.engine.dialect.name == "sqlite" and "uri" not in self.engine.url.query:
            self._place = _Place(Path(self.engine.url.database or "").absolute())

    @property
    def name(self) -> str:
        """Its URL, without the password."""
        return self.engine.url.render_as_string(hide_password=True)

    @contextmanager
    def begin(self, *, reads: bool = False) -> Iterator[Connection]:
        """A connection in a transaction, committed at the end.

        `reads`: nothing will be written, so nobody has to wait. What the database says of a statement or its values is
        no loss, but the caller's fault, and raised as it is. What is put into the connection's option `committed` is
        called once all of it is written.

        Raises:
            DatabaseLostError: the database is gone.
        """
        if self._place:
            self._place.check()
        committed: list[Callable[[], None]] = []
        try:
            with (self._readers if reads else self.engine).begin() as connection:
                connection.execution_options(committed=committed)
                yield connection
        except (OperationalError, InterfaceError, InternalError, PoolTimeoutError) as error:
            raise DatabaseLostError(_reason(error)) from error
        for call in committed:
            call()

    @contextmanager
    def change(self, *, masks: bool = False) -> Iterator[Connection]:
        """As `begin`, for what other replicas must learn: raises the number that they watch. `masks`: theirs too.

        The number's row is locked first, so changes happen one after the other, on every replica.
        """
        with self.begin() as connection:
            connection.execute(
                update(changes).values(number=changes.c.number + 1, masks=changes.c.masks + (1 if masks else 0))
            )
            yield connection

    def number(self) -> int:
        """How many changes there were.

        Raises:
            DatabaseLostError: the database cannot be reached.
        """
        with self.begin(reads=True) as connection:
            return connection.scalar(select(changes.c.number)) or 0

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


class _Place:
    """Where SQLite's file is, and which file it is: as long as it is open, no other has its number.

    SQLite asks the same before it writes (SQLITE_READONLY_DBMOVED), but not with a write-ahead log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._found()

    def check(self) -> None:
        """Raise `DatabaseMovedError` unless the file is still there."""
        if (file := self._found()) != self._file:
            raise DatabaseMovedError(self._path, "is another file than before" if file else "was moved or deleted")

    def _found(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino


def _reason(error: Exception) -> str:
    return (str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__])[0]


def _parsed(url: str) -> URL:
    """What `url` says.

    Raises:
        DatabaseError: it is no address of a database; the message never shows it, for it may hold a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number is a ValueError
        raise DatabaseError(
            "--database is no SQLAlchemy URL; examples are sqlite:////data/excise.db and "
            "postgresql://user:password@host:5432/excise (in a password write %40 for @, %2F for /)"
        ) from None
    kind = parsed.get_backend_name()
    if kind not in ("sqlite", "postgresql", "postgres"):
        raise DatabaseError(f"the database {kind} is not supported; give SQLite or PostgreSQL")
    if kind == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise DatabaseError("a database in memory is not supported; give a file: sqlite:////data/excise.db")
    # Without a driver SQLAlchemy would take PostgreSQL's for one that is not ours.
    bare = parsed.drivername in ("postgres", "postgresql")
    return parsed.set(drivername="postgresql+psycopg") if bare else parsed


def _connect(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        engine = create_engine(url, pool_pre_ping=True, pool_timeout=5, connect_args=_PATIENCE)
        event.listen(engine, "connect", _bounded)
        return engine
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def _durable(connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions begin where we say, below
        connection.execute(f"PRAGMA busy_timeout={_WAIT}")
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads first and then writes cannot wait for another writer; one that begins as one can.
        reads = connection.get_execution_options().get("reads")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _write_ahead(connection: Any) -> None:
    """Turn on SQLite's write-ahead log. While others open a new file too, it refuses at once and waits for nobody."""
    deadline = time.monotonic() + _WAIT / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _bounded(connection: Any, _: object) -> None:
    """Of PostgreSQL: nobody waits for ever, and who does nothing in the middle of a change is put out."""
    connection.execute(f"SET lock_timeout = {_WAIT}")
    connection.execute(f"SET idle_in_transaction_session_timeout = {6 * _WAIT}")
    connection.commit()
