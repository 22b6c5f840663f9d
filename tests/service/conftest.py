"""A real PostgreSQL, one for the whole run, with a new database for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.postgres import Postgres, reason_against
from tests.service.replica import Replicas


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server; ``postgres.url()`` is a new, empty database. A test that kills it must start it again."""
    if reason := reason_against():
        pytest.skip(reason)
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def postgres_url(postgres) -> Iterator[str]:
    """Of a new, empty database."""
    url = postgres.url()
    yield url
    postgres.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path) -> str:
    """Of a new, empty database: the test runs on both kinds."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'excise.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def replicas(tmp_path, monkeypatch):
    """Replicas without an engine, on SQLite, in a folder that stands for its disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    factory = Replicas(tmp_path, f"sqlite:///{folder / 'excise.db'}", monkeypatch)
    yield factory
    factory.close()


@pytest.fixture
def both(tmp_path, database_url, monkeypatch):
    """Replicas on each kind of database."""
    factory = Replicas(tmp_path, database_url, monkeypatch)
    yield factory
    factory.close()
