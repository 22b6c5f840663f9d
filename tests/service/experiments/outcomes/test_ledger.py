"""One ledger, and several, on both kinds of database; nothing fails but what a test makes fail."""

import sys
import threading

import pytest
from sqlalchemy import func, select

from service.experiments.outcomes import ledger as module
from service.experiments.outcomes.ledger import Ledger, unit_hash
from service.experiments.outcomes.queries import forget, tallies
from service.experiments.outcomes.totals import Outcome, Totals
from service.storage.database import Database, DatabaseLostError
from service.storage.tables import WHOLE, outcomes, units
from tests.service.experiments.outcomes.minutes import timeline


class Clock:
    def __init__(self, now: float = 1_000_000_020.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def response(unit="u", variant="a", *, by_user=True, counted=True, epoch=0, experiment="e", **more) -> Outcome:
    return Outcome(experiment, epoch, variant, unit, counted, by_user, **{"tokens": 10, "seconds": 0.5, **more})


def only(database: Database, experiment: str = "e") -> tuple[Totals, Totals]:
    (tally,) = tallies(database, experiment)
    return tally.all, tally.units


def rows(database: Database, table) -> int:
    with database.begin(reads=True) as connection:
        return connection.scalar(select(func.count()).select_from(table))


def test_nothing_is_in_the_database_before_a_flush_and_all_of_it_after(database):
    ledger = Ledger(database, "r", Clock())
    for _ in range(3):
        ledger.add(response(by_user=False, toxic=True))
    assert tallies(database, "e") == []
    assert ledger.waiting == 3
    assert ledger.flush() == 3
    assert ledger.waiting == 0
    everything, tested = only(database)
    assert everything == tested
    assert (everything.responses, everything.toxic, everything.tokens, everything.seconds) == (3, 3, 30, 1.5)


def test_a_flush_with_nothing_new_does_not_touch_the_database(database, commits):
    ledger = Ledger(database, "r", Clock())
    ledger.add(response())
    ledger.flush()
    commits.fate = "is lost"
    assert ledger.flush() == 0


def test_close_writes_what_is_left(database):
    ledger = Ledger(database, "r", Clock())
    ledger.add(response())
    ledger.close()
    assert only(database)[0].responses == 1


def test_epochs_and_variants_are_kept_apart_and_experiments_too(database):
    ledger = Ledger(database, "r", Clock())
    for epoch, variant in [(0, "b"), (1, "a"), (0, "a"), (0, "a")]:
        ledger.add(response(variant=variant, epoch=epoch, by_user=False))
    ledger.add(response(experiment="other", by_user=False))
    ledger.flush()
    assert [(t.epoch, t.variant, t.all.responses) for t in tallies(database, "e")] == [
        (0, "a", 2),
        (0, "b", 1),
        (1, "a", 1),
    ]


def test_of_a_user_the_first_response_stands_in_the_tests_and_all_are_described(database):
    ledger = Ledger(database, "r", Clock())
    for tokens in (1, 2):  # in one flush
        ledger.add(response("ada", tokens=tokens))
    ledger.flush()
    ledger.add(response("ada", tokens=4))  # in another
    ledger.add(response("bob", tokens=8))
    ledger.flush()
    everything, tested = only(database)
    assert (everything.responses, everything.tokens) == (4, 15)
    assert (tested.responses, tested.tokens) == (2, 9)


def test_a_failed_request_may_be_a_users_first(database):
    ledger = Ledger(database, "r", Clock())
    ledger.add(response("ada", error=True))
    ledger.add(response("ada"))
    ledger.flush()
    everything, tested = only(database)
    assert (everything.responses, everything.errors) == (1, 1)
    assert (tested.responses, tested.errors) == (0, 1)


def test_what_may_not_stand_for_its_unit_is_only_described_and_leaves_the_place_free(database):
    ledger = Ledger(database, "r", Clock())
    ledger.add(response("ada", counted=False))
    ledger.add(response("id-1", by_user=False, counted=False))
    ledger.flush()
    ledger.add(response("ada"))
    ledger.flush()
    everything, tested = only(database)
    assert (everything.responses, tested.responses) == (3, 1)


def test_a_user_counts_once_over_replicas_restarts_epochs_and_variants_and_anew_in_another_experiment(database):
    ledgers = [Ledger(database, name, Clock()) for name in ("one", "two")]
    for ledger in ledgers:
        ledger.add(response("ada", variant="a"))
    for ledger in ledgers:
        ledger.flush()
    after = Ledger(database, "three", Clock())
    after.add(response("ada", variant="b", epoch=1))
    after.add(response("ada", experiment="other"))
    after.flush()
    assert sum(tally.units.responses for tally in tallies(database, "e")) == 1
    assert sum(tally.all.responses for tally in tallies(database, "e")) == 3
    assert only(database, "other")[1].responses == 1


def test_users_who_were_counted_need_not_be_asked_for_and_are_not_all_remembered(database, monkeypatch):
    monkeypatch.setattr(module, "KNOWN", 2)
    ledger = Ledger(database, "r", Clock())
    for user in ("ada", "bob", "eve", "ada", "eve"):  # ada has been forgotten when she comes again
        ledger.add(response(user))
        ledger.flush()
    assert len(ledger._known) == 2
    assert only(database)[1].responses == 3


def test_more_users_than_one_transaction_takes_are_asked_for_in_several(database, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 10)
    ledger = Ledger(database, "r", Clock())
    for number in range(35):
        ledger.add(response(f"user {number}"))
        ledger.add(response(f"user {number}"))
    assert ledger.flush() == 70
    assert ledger.waiting == 0
    assert only(database)[0].responses == 70
    assert only(database)[1].responses == rows(database, units) == 35


def test_what_was_committed_before_the_database_was_lost_waits_no_more(database, commits, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 10)
    ledger = Ledger(database, "r", Clock())
    for number in range(25):
        ledger.add(response(f"user {number}"))
    commits.fate, commits.spared = "is lost", 1
    with pytest.raises(DatabaseLostError):
        ledger.flush()
    assert ledger.waiting == 15
    commits.fate = "succeeds"
    assert only(database)[1].responses == 10
    assert ledger.flush() == 15
    assert only(database)[1].responses == 25


def test_users_of_a_minute_long_over_are_added_to_it_when_their_turn_comes(database, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 10)
    clock = Clock()
    ledger = Ledger(database, "r", clock)
    for number in range(25):
        ledger.add(response(f"user {number}"))
    clock.now += 3600
    ledger.add(response("late"))
    ledger.flush()
    first, last = timeline(database, "e")
    assert (first.units.responses, last.units.responses) == (25, 1)


def test_a_key_of_any_characters_can_be_a_user(database):
    ledger = Ledger(database, "r", Clock())
    for user in ("", "\0", "\ud800", "ä" * 10_000):
        ledger.add(response(user))
    ledger.flush()
    assert only(database)[1].responses == 4


def test_a_units_hash_differs_between_experiments_and_fits_into_64_bits():
    assert unit_hash("a", "u") != unit_hash("b", "u")
    assert unit_hash("a", "u") == unit_hash("a", "u")
    assert all(-(2**63) <= unit_hash("a", str(n)) < 2**63 for n in range(100))


@pytest.mark.parametrize("fate", ["is lost", "is unknown"])
def test_what_a_lost_database_did_not_confirm_is_written_again_and_counted_once(database, commits, fate):
    ledger = Ledger(database, "r", Clock())
    for user in ("ada", "bob"):
        ledger.add(response(user))
    commits.fate = fate
    for extra in ("eve", "ada"):
        with pytest.raises(DatabaseLostError):
            ledger.flush()
        ledger.add(response(extra))
    assert ledger.waiting == 4
    commits.fate = "succeeds"
    assert ledger.flush() == 4
    everything, tested = only(database)
    assert (everything.responses, tested.responses) == (4, 3)


def test_a_replica_that_dies_after_a_commit_nobody_heard_of_leaves_it_counted_once(database, commits):
    dying = Ledger(database, "dying", Clock())
    dying.add(response("ada", tokens=1))
    commits.fate = "is unknown"
    with pytest.raises(DatabaseLostError):
        dying.flush()
    commits.fate = "succeeds"
    other = Ledger(database, "other", Clock())
    other.add(response("ada", tokens=2))
    other.flush()
    everything, tested = only(database)
    assert (everything.responses, everything.tokens) == (2, 3)
    assert (tested.responses, tested.tokens) == (1, 1)


def test_while_the_database_is_lost_memory_stays_bounded_and_what_does_not_fit_is_told(database, commits, monkeypatch):
    monkeypatch.setattr(module, "MOST_PENDING", 10)
    monkeypatch.setattr(module, "MOST_ROWS", 6)
    clock = Clock()
    ledger = Ledger(database, "r", clock)
    commits.fate = "is lost"
    for number in range(50):
        clock.now += 60 if number % 7 else -600
        ledger.add(response(f"user {number}"))
        with pytest.raises(DatabaseLostError):
            ledger.flush()
    assert len(ledger._pending) == 10
    assert len(ledger._rows) <= 6 + 2
    assert ledger.overflowed == 40
    commits.fate = "succeeds"
    ledger.flush()
    everything, tested = only(database)
    assert (everything.responses, tested.responses) == (50, 10)
    clock.now += 60
    ledger.add(response("one more"))
    assert ledger._minute == clock.now // 60  # minutes are kept apart again


def test_minutes_are_kept_apart_and_forgotten_once_they_are_over_and_written(database):
    clock = Clock()
    ledger = Ledger(database, "r", clock)
    for _ in range(200):
        ledger.add(response(by_user=False))
        clock.now += 30
        ledger.flush()
    assert len(ledger._rows) <= 4
    by_minute = timeline(database, "e")
    assert len(by_minute) in (100, 101)
    assert by_minute[0].start == 1_000_000_020.0 // 60 * 60
    assert sum(moment.all.responses for moment in by_minute) == 200


@pytest.mark.parametrize("jumps", [[-30, -3600, 3600], [86400, -86400, 60], [-60, 60, -60, 60, 0], [10**9, -(10**9)]])
def test_a_clock_that_jumps_makes_nothing_count_twice_or_not_at_all(database, jumps):
    clock = Clock()
    ledger = Ledger(database, "r", clock)
    expected: dict[float, int] = {}
    for jump in [0, *jumps, *jumps]:
        clock.now += jump
        for _ in range(3):
            ledger.add(response(by_user=False))
            start = clock.now // 60 * 60
            expected[start] = expected.get(start, 0) + 1
        ledger.flush()
    assert {moment.start: moment.all.responses for moment in timeline(database, "e")} == expected
    assert only(database)[0].responses == 3 * (1 + 2 * len(jumps))


def test_responses_that_arrive_during_a_flush_are_in_the_next(database, monkeypatch):
    clock = Clock()
    ledger = Ledger(database, "r", clock)
    upsert = module._upsert

    def slow(connection, written):
        ledger.add(response("ada"))  # has been asked for, by this very flush
        ledger.add(response("bob"))
        clock.now += 60
        upsert(connection, written)

    monkeypatch.setattr(module, "_upsert", slow)
    ledger.add(response("ada"))
    ledger.flush()
    monkeypatch.setattr(module, "_upsert", upsert)
    assert ledger.waiting == 2
    assert only(database)[0].responses == 1
    ledger.add(response("eve"))
    ledger.flush()
    everything, tested = only(database)
    assert (everything.responses, tested.responses) == (4, 3)


@pytest.fixture
def restless():
    """Threads that take turns all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_adding_and_flushing_in_many_threads_loses_nothing(database, restless):
    ledger = Ledger(database, "r", Clock())
    done = threading.Event()

    def add(name: str) -> None:
        for number in range(500):
            ledger.add(response(f"{name} {number // 2}"))

    def flush() -> None:
        while not done.is_set():
            ledger.flush()

    adding = [threading.Thread(target=add, args=(name,)) for name in "abc"]
    flushing = [threading.Thread(target=flush) for _ in range(2)]
    for thread in adding + flushing:
        thread.start()
    for thread in adding:
        thread.join()
    done.set()
    for thread in flushing:
        thread.join()
    ledger.flush()
    everything, tested = only(database)
    assert (everything.responses, tested.responses) == (1500, 750)
    assert ledger.waiting == 0


def test_replicas_that_meet_the_same_users_in_opposite_orders_do_not_stop_each_other(database):
    users = [f"user {number}" for number in range(300)]
    for round_ in range(5):
        ledgers = [Ledger(database, f"{name}-{round_}", Clock()) for name in ("one", "two")]
        for ledger, order in zip(ledgers, (users, users[::-1]), strict=True):
            for user in order:
                ledger.add(response(f"{user} of {round_}"))
        together = threading.Barrier(2)
        failures: list[Exception] = []

        def flush(ledger: Ledger, together=together, failures=failures) -> None:
            together.wait(60)
            try:
                ledger.flush()
            except DatabaseLostError as error:
                failures.append(error)

        threads = [threading.Thread(target=flush, args=(ledger,)) for ledger in ledgers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
    everything, tested = only(database)
    assert (everything.responses, tested.responses) == (3000, 1500)


def test_what_is_read_for_a_report_does_not_grow_with_the_minutes_nor_with_the_clocks_jumps(database):
    clock = Clock()
    ledger = Ledger(database, "r", clock)
    for number in range(50):
        ledger.add(response(by_user=False))
        clock.now += -600 if number % 10 == 0 else 60
        ledger.flush()
    with database.begin(reads=True) as connection:
        whole = select(func.count()).select_from(outcomes).where(outcomes.c.minute == WHOLE)
        assert connection.scalar(whole) == 2
    assert only(database)[0].responses == sum(moment.all.responses for moment in timeline(database, "e")) == 50


def test_forgetting_an_experiment_leaves_the_others(database):
    ledger = Ledger(database, "r", Clock())
    for experiment in ("e", "other"):
        ledger.add(response(experiment=experiment))
    ledger.flush()
    forget(database, "e")
    assert tallies(database, "e") == timeline(database, "e") == []
    assert only(database, "other")[1].responses == 1
    assert (rows(database, units), rows(database, outcomes)) == (1, 4)


def test_a_timeline_can_be_drawn_by_the_hour(database):
    clock = Clock(1_000_000_800.0)  # on the hour
    ledger = Ledger(database, "r", clock)
    for _ in range(180):
        ledger.add(response(by_user=False))
        clock.now += 60
    ledger.flush()
    points = [(moment.start, moment.all.responses) for moment in timeline(database, "e", width=60)]
    assert points == [(1_000_000_800.0 + 3600 * hour, 60) for hour in range(3)]


def test_sums_beyond_32_bits_come_back_as_they_are(database):
    ledger = Ledger(database, "r", Clock())
    for _ in range(1000):
        ledger.add(response(by_user=False, tokens=10_000_000))
    ledger.flush()
    assert only(database)[0].tokens_squared == 10**17
    assert isinstance(only(database)[0].tokens_squared, int)


@pytest.mark.parametrize("replica", ["", "r" * 25])
def test_an_id_that_does_not_fit_is_refused(database, replica):
    with pytest.raises(ValueError, match="must have 1 to 24 characters"):
        Ledger(database, replica, Clock())
