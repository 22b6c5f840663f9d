"""Upkeep: writing, following and conducting go on whatever fails, and say whether the database answers."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from prometheus_client import generate_latest
from sqlalchemy import func, select

from service import metrics
from service.experiments.experiment import Experiment, Variant, begin, stopped
from service.experiments.outcomes import queries
from service.experiments.outcomes.totals import Outcome
from service.storage.database import DatabaseLostError
from tests.service.experiments.outcomes.minutes import timeline
from tests.service.replica import Clock, begun, made


def outcome(number: int) -> Outcome:
    return Outcome("ab", 0, "control", f"user-{number}", counted=True, by_user=True, seconds=0.1, toxic=False)


def up() -> float:
    return metrics.DATABASE_UP._value.get()


async def all_of(background_tasks) -> None:
    for work in (
        background_tasks.write,
        background_tasks._control.follow,
        background_tasks.controller.check_experiments,
    ):
        await background_tasks.once(work)


def test_a_lost_database_is_told_until_it_answers_again_and_nothing_is_lost(replicas, caplog):
    clock = Clock()
    replica = replicas(clock)
    service, background_tasks = replica.service, replica.service.background_tasks

    async def run() -> None:
        await all_of(background_tasks)
        assert (background_tasks.lost, up()) == (None, 1)
        began = clock.now
        with replica.out_of_reach():
            for number in range(3):
                service.ledger.add(outcome(number))
                await all_of(background_tasks)
                assert background_tasks.lost[0] == began
                assert "was moved or deleted" in background_tasks.lost[1]
                assert background_tasks.moved
                assert up() == 0
                clock.now += 1
            assert service.ledger.waiting == 3
        written = metrics.OUTCOMES_WRITTEN._value.get()
        await all_of(background_tasks)
        assert (background_tasks.lost, background_tasks.moved, up(), service.ledger.waiting) == (None, False, 1, 0)
        assert metrics.OUTCOMES_WRITTEN._value.get() == written + 3

    asyncio.run(run())
    assert [tally.units.responses for tally in queries.tallies(replica.database, "ab")] == [3]
    assert [record.message for record in caplog.records if "database" in record.message] == [
        f"the database {replica.database.engine.url.database} was moved or deleted, so nothing can be changed or "
        "looked up now. Put the file back that this server opened; to go on with another, stop the server first, and "
        "leave no -wal or -shm of the old one; what is known is served on",
        "the database answers again, after 3 s",
    ]


def test_work_that_asks_nothing_of_the_database_does_not_find_it(replicas):
    replica = replicas()
    background_tasks = replica.service.background_tasks

    async def run() -> None:
        with replica.out_of_reach():
            await background_tasks.once(replica.service.follow)
            await background_tasks.once(background_tasks.write)  # nothing is waiting
            await background_tasks.once(background_tasks.controller.check_experiments)  # no experiment is on
            assert (up(), background_tasks.lost is None) == (0, False)
        await background_tasks.once(replica.service.follow)
        assert (up(), background_tasks.lost) == (1, None)

    asyncio.run(run())


def test_a_database_that_is_read_but_not_written_is_lost(replicas, monkeypatch):
    replica = replicas()
    background_tasks, ledger = replica.service.background_tasks, replica.service.ledger

    def full() -> int:
        raise DatabaseLostError("database or disk is full")

    async def run() -> None:
        ledger.add(outcome(1))
        with monkeypatch.context() as patch:
            patch.setattr(ledger, "flush", full)
            for _ in range(3):
                await all_of(background_tasks)
                assert (up(), "full" in background_tasks.lost[1]) == (0, True)
        await all_of(background_tasks)
        assert (up(), background_tasks.lost, ledger.waiting) == (1, None, 0)

    asyncio.run(run())


def test_a_database_that_neither_answers_nor_refuses_is_lost(replicas, monkeypatch):
    monkeypatch.setattr("service.background_tasks._PATIENCE", 0.0)
    background_tasks = replicas().service.background_tasks

    async def run() -> None:
        answers = asyncio.Event()
        task = asyncio.create_task(background_tasks.once(answers.wait))
        while not background_tasks.lost:
            await asyncio.sleep(0)
        assert ("not answered" in background_tasks.lost[1], up()) == (True, 0)
        answers.set()
        await task
        assert (background_tasks.lost, up()) == (None, 1)

    asyncio.run(run())


def test_each_outcome_is_counted_as_written_once_also_when_it_came_during_the_writing(replicas, monkeypatch):
    replica = replicas()
    ledger, before = replica.service.ledger, metrics.OUTCOMES_WRITTEN._value.get()
    flush = ledger.flush

    def late() -> int:
        ledger.add(outcome(99))
        return flush()

    async def run() -> None:
        ledger.add(outcome(1))
        with monkeypatch.context() as patch:
            patch.setattr(ledger, "flush", late)
            await replica.service.background_tasks.write()
        await replica.service.background_tasks.write()

    asyncio.run(run())
    assert metrics.OUTCOMES_WRITTEN._value.get() == before + 2
    assert metrics.OUTCOMES_WAITING._value.get() == 0


def test_what_fails_for_another_reason_is_tried_again_and_says_nothing_of_the_database(replicas, caplog):
    background_tasks, tries = replicas().service.background_tasks, []

    async def work() -> None:
        tries.append(len(tries))
        if len(tries) < 3:
            raise ValueError("a bug")

    async def run() -> None:
        task = asyncio.create_task(background_tasks._each(0, work))
        while len(tries) < 3:
            await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert background_tasks.lost is None
    assert caplog.text.count("upkeep failed, and is tried again") == 2


def test_closing_writes_what_was_gathered(replicas):
    replica = replicas()

    async def run() -> None:
        replica.service.background_tasks.start()
        replica.service.ledger.add(outcome(1))
        await replica.service.background_tasks.close()

    asyncio.run(run())
    assert [tally.all.responses for tally in queries.tallies(replica.database, "ab")] == [1]


def test_closing_without_the_database_says_what_is_lost(replicas, caplog):
    replica = replicas()

    async def run() -> None:
        replica.service.ledger.add(outcome(1))
        with replica.out_of_reach():
            await replica.service.close()

    asyncio.run(run())
    assert "1 outcomes were not written and are lost" in caplog.text


def test_a_replica_catches_up_with_what_it_missed(replicas):
    one, other = replicas(), replicas()
    one.add(made("detox", 1))

    async def run() -> None:
        await other.service.follow()
        with other.out_of_reach(), pytest.raises(DatabaseLostError):
            await other.service.follow()
        assert other.service.policy.route == "base"
        await one.service.administer(one.service.state.set_route, "detox@1")
        await other.service.follow()
        assert other.service.policy.route == "detox@1"

    asyncio.run(run())


def test_a_change_that_was_made_counts_even_if_it_cannot_be_read_back(replicas, monkeypatch, caplog):
    replica = replicas()
    replica.add(made("detox", 1))
    service = replica.service

    def gone():
        raise DatabaseLostError("gone")

    async def run() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(service, "reload", gone)
            await service.administer(service.state.set_route, "detox@1")
        assert service.policy.route == "base"
        await service.follow()
        assert service.policy.route == "detox@1"

    asyncio.run(run())
    assert "not in force here yet" in caplog.text


def test_masks_and_routes_are_always_of_one_moment(replicas, monkeypatch):
    """Another replica registers a mask and leads the route to it while this one reads."""
    one, other = replicas(), replicas()
    versions, done = other.service._versions, []

    def meanwhile():
        mask_versions = versions()
        if not done:
            done.append(True)
            one.add(made("detox", 1), made("detox", 2))
            one.service.state.set_route("detox@2")
        return mask_versions

    one.add(made("other", 1))
    monkeypatch.setattr(other.service, "_versions", meanwhile)
    other.service.reload()
    assert done
    policy = other.service.policy
    assert (policy.route, list(policy.masks["detox"])) == ("detox@2", [1, 2])
    assert not other.service.behind()


def test_a_slow_change_does_not_keep_a_replica_from_following(replicas):
    one, other = replicas(), replicas()
    one.add(made("detox", 1))

    async def run() -> None:
        go = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow() -> None:
            asyncio.run_coroutine_threadsafe(go.wait(), loop).result(30)

        task = asyncio.create_task(other.service.administer(slow))
        await asyncio.sleep(0)
        await one.service.administer(one.service.state.set_route, "detox@1")
        await asyncio.wait_for(other.service.follow(), 10)
        assert other.service.policy.route == "detox@1"
        go.set()
        await task

    asyncio.run(run())


def test_metrics_of_a_deleted_experiment_are_forgotten(replicas):
    replica = replicas()
    replica.add(made("detox", 1))
    variants = (Variant("control", "base", 1.0), Variant("treated", "detox@1", 1.0))
    service = replica.service

    async def run() -> None:
        await service.administer(service.state.create, begin(Experiment("gone", variants, "control"), 0.0))
        assert b'excise_experiment_share{experiment="gone",variant="treated"} 0.5' in generate_latest()
        await service.administer(service.state.change, "gone", lambda e: stopped(e, "enough"), action="stop")
        assert b'excise_experiment_share{experiment="gone",variant="treated"} 0.0' in generate_latest()
        await service.remove("gone")
        assert b'experiment="gone"' not in generate_latest()

    asyncio.run(run())


def test_users_of_an_experiment_that_is_over_are_forgotten_once_no_feedback_may_come(replicas):
    clock = Clock()
    replica = replicas(clock, feedback_hours=2.0, outcome_days=1.0).with_detox()
    service = replica.service

    def kept() -> tuple[int, int]:
        with replica.database.begin(reads=True) as connection:
            of_units = connection.scalar(select(func.count()).select_from(queries.units))
            return of_units, len(timeline(replica.database, "ab"))

    async def run() -> None:
        async with replica.client() as http:
            await begun(http)
            await http.post("/v1/chat/completions", json={"model": "demo", "user": "ann"})
            service.ledger.flush()
            await service.background_tasks.once(service.background_tasks.expire)
            assert kept() == (1, 1)
            assert (await http.post("/experiments/ab/stop")).json()["stopped_at"] == clock.now
        clock.now += 2.5 * 3600
        await service.background_tasks.once(service.background_tasks.expire)
        assert kept() == (1, 1)
        clock.now += 3600
        await service.background_tasks.once(service.background_tasks.expire)
        assert kept() == (0, 1)
        clock.now += 86_400
        await service.background_tasks.once(service.background_tasks.expire)
        assert kept() == (0, 0)
        assert [tally.all.responses for tally in queries.tallies(replica.database, "ab")] == [1]

    asyncio.run(run())
