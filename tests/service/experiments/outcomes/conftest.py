"""One database of each kind, and a way to make its commits fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest

from service.storage.database import Database

Fate = Literal["succeeds", "is lost", "is unknown"]


class Commits:
    """What happens to the next commits: ``is unknown`` commits, and then the connection is lost before it says so.

    Attributes:
        fate: of every commit after the next ``spared`` ones.
    """

    def __init__(self, database: Database) -> None:
        self.fate: Fate = "succeeds"
        self.spared = 0
        dialect = database.engine.dialect
        commit, failure = dialect.do_commit, dialect.loaded_dbapi.OperationalError

        def do_commit(connection):
            self.spared -= 1
            fate = "succeeds" if self.spared >= 0 else self.fate
            if fate != "is lost":
                commit(connection)
            if fate != "succeeds":
                raise failure("the connection was lost")

        dialect.do_commit = do_commit


@pytest.fixture
def database(database_url) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def commits(database) -> Commits:
    return Commits(database)
