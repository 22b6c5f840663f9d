"""What is left when a replica or the database is killed, or the disk is full."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import func, select

from service.experiments.outcomes.ledger import Ledger
from service.experiments.outcomes.queries import tallies
from service.experiments.outcomes.totals import Outcome, Totals
from service.storage.database import Database, DatabaseLostError
from service.storage.tables import units
from tests.service.experiments.outcomes.replica import BURST

ROOT = Path(__file__).resolve().parents[4]


def response(unit: str) -> Outcome:
    return Outcome("e", 0, "a", unit, counted=True, by_user=True, tokens=1)


def only(database: Database) -> tuple[Totals, Totals]:
    (tally,) = tallies(database, "e")
    return tally.all, tally.units


def users(database: Database) -> int:
    with database.begin(reads=True) as connection:
        return connection.scalar(select(func.count()).select_from(units)) or 0


def replica(url: str, name: str, bursts: int = 0) -> subprocess.Popen[str]:
    """A child process, ready to begin when it is told to."""
    command = [sys.executable, "-m", "tests.service.experiments.outcomes.replica", url, name, str(bursts)]
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_of_a_killed_replica_all_that_was_committed_is_there_and_never_more_than_was_added(database, database_url):
    least = upper_bound = 0
    for number, lines in enumerate((1, 4, 9)):
        process = replica(database_url, f"killed-{number}")
        tell(process)
        for _ in range(lines):
            process.stdout.readline()
        process.kill()
        rest = process.communicate()[0].splitlines()
        reported = int(rest[-1]) if rest else lines * BURST
        least, upper_bound = least + reported, upper_bound + reported + BURST  # one burst was on its way
        everything, tested = only(database)
        assert least <= everything.responses == everything.tokens <= upper_bound
        assert tested.responses == tested.tokens == users(database)


def test_replicas_that_share_users_count_each_once_and_do_not_stop_each_other(database, database_url):
    bursts = 60
    processes = [replica(database_url, f"replica-{number}", bursts) for number in range(3)]
    for process in processes:
        tell(process)
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 0
    everything, tested = only(database)
    assert everything.responses == len(processes) * bursts * BURST
    assert tested.responses == users(database)
    assert tested.responses < everything.responses / 2  # they did meet


def test_a_database_killed_under_load_loses_nothing_and_counts_nothing_twice(postgres, postgres_url):
    with closing(Database(postgres_url)) as database:
        ledger = Ledger(database, "r", lambda: 0.0)
        added = 0

        def add(responses: int) -> None:
            nonlocal added
            for _ in range(responses):
                ledger.add(response(f"user {added // 2}"))
                added += 1

        for _ in range(3):
            flushed = threading.Semaphore(0)
            thread = threading.Thread(target=flush_until_lost, args=(ledger, flushed))
            thread.start()
            try:
                for _ in range(5):
                    add(201)
                    assert flushed.acquire(timeout=60)
                add(1000)
                postgres.kill()
                add(1)
                thread.join(60)
                assert not thread.is_alive()
            finally:
                postgres.start()
            add(10)
            assert ledger.flush() > 0
            everything, tested = only(database)
            assert everything.responses == added
            assert tested.responses == users(database) == (added + 1) // 2
        assert ledger.overflowed == 0


def flush_until_lost(ledger: Ledger, flushed: threading.Semaphore) -> None:
    with suppress(DatabaseLostError):
        while True:
            if ledger.flush():
                flushed.release()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of this size. Skips the test where none may be mounted."""
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]).returncode:
        pytest.skip("a small file system can only be mounted by root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(ledger: Ledger, flushes: int = 3000) -> int:
    """Add and flush until the database refuses; return how many were added."""
    for number in range(flushes):
        for user in range(50):
            ledger.add(response(f"user {50 * number + user}"))
        try:
            ledger.flush()
        except DatabaseLostError as error:
            assert any(word in str(error) for word in ("full", "No space", "disk I/O")), str(error)
            return 50 * (number + 1)
    raise AssertionError("the disk never was full")


def check_full(ledger: Ledger, database: Database, added: int) -> None:
    """With the disk full: what was committed can be read, and more may come, which stays in memory."""
    everything, tested = only(database)
    assert 0 < everything.responses == tested.responses < added
    assert ledger.waiting == added - everything.responses


def check_mended(ledger: Ledger, database: Database, added: int) -> None:
    ledger.flush()
    everything, tested = only(database)
    assert everything.responses == tested.responses == users(database) == added
    assert ledger.waiting == 0


def test_on_a_full_disk_sqlite_keeps_what_it_has_and_the_rest_comes_when_there_is_room(tmp_path):
    with small_disk(tmp_path / "disk", "600k") as disk, closing(Database(f"sqlite:///{disk / 'a.db'}")) as database:
        ledger = Ledger(database, "r", lambda: 0.0)
        added = fill(ledger)
        check_full(ledger, database, added)
        with pytest.raises(DatabaseLostError):
            ledger.flush()
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        check_mended(ledger, database, added)


def test_on_a_full_disk_postgresql_keeps_what_it_has_and_the_rest_comes_when_there_is_room(postgres):
    with small_disk(postgres.folder / "disk", "9m") as disk:
        url = postgres.url_on(disk)
        try:
            with closing(Database(url)) as database:
                ledger = Ledger(database, "r", lambda: 0.0)
                added = fill(ledger)
                check_full(ledger, database, added)
                subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
                check_mended(ledger, database, added)
        finally:
            postgres.drop(url)


def test_a_quota_on_files_is_a_full_disk_too(tmp_path):
    """As above, where nothing may be mounted: no file of this process may grow beyond a limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(Database(f"sqlite:///{tmp_path / 'a.db'}")) as database:
        ledger = Ledger(database, "r", lambda: 0.0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, before[1]))
        try:
            added = fill(ledger)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        check_full(ledger, database, added)
        check_mended(ledger, database, added)
