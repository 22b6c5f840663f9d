"""The queue with real worker processes. Starting one takes seconds, so the tests that can share one do."""

import asyncio
import logging
import os
import signal
import time

import pytest

from service.scoring.circuit_breaker import CircuitBreaker
from service.scoring.queue import ScoringQueue
from tests.service.scoring.stage import Stage, said, staged, value


def test_responses_are_counted_by_mask_as_toxic_and_repetitive():
    async def story():
        async with staged("profanity") as stage:
            stage.queue.put(said("You are a stupid idiot, you fool.", "count@1", range(9)))
            stage.queue.put(said("I'm sorry, but I can't help with that.", "count@1", [1, 2] * 10))
            stage.queue.put(said("", "count@1", []))
            await stage.until(3)
            return stage.scored

    insult, loop, empty = asyncio.run(story())
    assert (insult.toxic, insult.repetitive, insult.refusal, insult.ratio) == (True, False, False, 1.0)
    assert insult.toxicity is not None and insult.toxicity >= 0.5
    assert (loop.toxic, loop.repetitive, loop.refusal, loop.ratio) == (False, True, True, 0.1)
    assert (empty.toxicity, empty.toxic, empty.repetitive, empty.ratio) == (0.0, False, False, None)
    assert value("excise_scored_responses_total", mask="count@1") == 3
    assert value("excise_toxicity_score_count", mask="count@1") == 3
    assert value("excise_toxic_responses_total", mask="count@1") == 1
    assert value("excise_repetitive_responses_total", mask="count@1") == 1
    assert value("excise_uniqueness_ratio_count", mask="count@1") == 2


def test_any_text_is_scored():
    texts = ["half a pair \ud800", "nothing\x00between", "word " * 2_000_000, "\u202e\U0001f600", "x" * 1_000_000, " "]

    async def story():
        async with staged("profanity") as stage:
            stage.put(*texts)
            return await stage.until(len(texts)), stage.dropped

    scores, dropped = asyncio.run(story())
    assert list(scores) == texts
    assert None not in scores.values()
    assert dropped == 0


def test_a_killed_worker_is_started_again_and_nothing_is_lost(cued):
    async def story():
        async with staged() as stage:
            stage.put("one", "bad one")
            await stage.until(2)
            (pid,) = stage.queue.pids
            os.kill(pid, signal.SIGKILL)
            stage.put("two", "bad two")
            scores = await stage.until(4)
            assert stage.queue.pids != [pid]
            return scores, stage.restarts, stage.dropped

    assert asyncio.run(story()) == ({"one": 0.1, "bad one": 0.9, "two": 0.1, "bad two": 0.9}, 1, 0)


def test_a_worker_that_dies_in_a_batch_has_it_tried_once_more(cued):
    batch = ["a", f"DIE-ONCE:{cued / 'died'}", "bad b"]

    async def story():
        async with staged() as stage:
            stage.put(*batch)
            return await stage.until(3), stage.restarts, stage.dropped

    scores, restarts, dropped = asyncio.run(story())
    assert [scores[text] for text in batch] == [0.1, 0.1, 0.9]
    assert (restarts, dropped) == (1, 0)


def test_a_text_that_kills_the_worker_takes_no_other_with_it(cued):
    async def story():
        async with staged() as stage:
            stage.put("a", "b", "DIE", "bad c", "FAIL", "d")
            return await stage.until(6), stage.restarts, stage.dropped

    scores, restarts, dropped = asyncio.run(story())
    assert scores == {"a": 0.1, "b": 0.1, "DIE": None, "bad c": 0.9, "FAIL": None, "d": 0.1}
    assert (restarts, dropped) == (2, 2)


def test_a_worker_that_is_stuck_is_killed_and_its_text_given_up(cued):
    async def story():
        async with staged(stuck=1.0) as stage:
            stage.put("a", "SLEEP:60", "bad b")
            return await stage.until(3), stage.dropped

    assert asyncio.run(story()) == ({"a": 0.1, "SLEEP:60": None, "bad b": 0.9}, 1)


def test_a_scorer_that_is_gone_is_left_alone_and_tried_again_later(cued):
    now = [0.0]
    breaker = CircuitBreaker(3, first=5.0, clock=lambda: now[0])

    async def story():
        async with staged(breaker=breaker) as stage:
            for number in range(3):
                stage.put(f"GONE {number}")
                await stage.until(number + 1)
            assert breaker.open
            stage.put("not asked")
            await stage.until(4)
            now[0] = 6.0
            stage.put("the trial")
            await stage.until(5)
            assert not breaker.open
            stage.put("bad word")
            return await stage.until(6), stage.dropped, stage.restarts

    scores, dropped, restarts = asyncio.run(story())
    assert list(scores.values()) == [None, None, None, None, 0.1, 0.9]
    assert (dropped, restarts) == (4, 0)


@pytest.mark.parametrize("scorer", ["broken", "dying", "nonsense"])
def test_a_scorer_that_cannot_start_drops_goes_on_and_is_left_alone(cued, scorer, caplog):
    async def story():
        breaker = CircuitBreaker()
        async with staged(scorer, breaker=breaker) as stage:
            stage.put(*map(str, range(50)))
            await stage.until(50)
            stage.put(*map(str, range(50, 100)))
            scores = await stage.until(100)
            assert breaker.open
            return scores, stage.dropped

    with caplog.at_level(logging.WARNING):
        scores, dropped = asyncio.run(story())
    assert set(scores.values()) == {None}
    assert dropped == 100
    assert len(caplog.records) < 10  # one fault, not one a response


def test_a_full_queue_drops_counts_hands_on_and_never_blocks():
    async def story():
        stage = Stage(capacity=5)  # not started: nothing leaves it
        stage.put(*"abcdefgh")
        assert stage.dropped == 3
        assert [one.response.text for one in stage.scored] == list("fgh")
        await stage.queue.close()
        assert stage.dropped == 8
        assert [one.response.text for one in stage.scored] == list("fghabcde")
        assert all(one.toxicity is None and one.toxic is None for one in stage.scored)

    asyncio.run(story())


def test_long_responses_cannot_fill_the_memory():
    async def story():
        stage = Stage()
        text = "x" * 10_000_000
        for _ in range(20):
            stage.queue.put(said(text))
        assert stage.dropped == 13  # more than 64 Mi characters wait after seven
        await stage.queue.close()
        assert stage.dropped == 20

    asyncio.run(story())


def test_a_part_of_the_units_is_sampled_and_the_rest_handed_on_unscored(cued):
    async def story():
        async with staged(rate=0.25) as stage:
            for number in range(400):
                stage.queue.put(said(f"text {number}", unit=f"user-{number % 100}"))
            await stage.until(400)
            return stage.scored, stage.dropped

    scored, dropped = asyncio.run(story())
    by_unit: dict[str, set[bool]] = {}
    for one in scored:
        by_unit.setdefault(one.response.unit, set()).add(one.toxicity is not None)
    assert all(len(kinds) == 1 for kinds in by_unit.values())
    assert 10 <= sum(kinds == {True} for kinds in by_unit.values()) <= 40
    assert dropped == 0  # left out on purpose


def test_responses_without_a_unit_are_sampled_each_for_itself():
    async def story():
        stage = Stage(rate=0.5)
        stage.put(*["same"] * 400)
        await stage.queue.close()
        assert 150 < stage.dropped < 250

    asyncio.run(story())


def test_at_rate_0_no_process_is_started_and_all_is_handed_on(caplog):
    async def story():
        async with staged("none", rate=0.0) as stage:
            stage.put("a", "b")
            await asyncio.sleep(0)
            assert len(stage.scored) == 2
            assert (stage.queue.pids, stage.dropped) == ([], 0)

    asyncio.run(story())
    assert not caplog.records


def test_closing_scores_what_is_waiting(cued):
    async def story():
        async with staged(drain=30) as stage:
            stage.put(*map(str, range(500)))
        assert len(stage.scored) == 500
        assert all(one.toxicity is not None for one in stage.scored)
        stage.put("too late")
        assert len(stage.scored) == 501 and stage.scored[-1].toxicity is None
        await stage.queue.close()  # once more does nothing

    asyncio.run(story())


def test_closing_lasts_no_longer_than_its_limit(cued):
    async def story():
        async with staged("slow", drain=1.0) as stage:
            stage.put("a")
            await stage.until(1)
            (pid,) = stage.queue.pids
            stage.put("b", *["SLEEP:60"] * 40)
            began = time.monotonic()
        assert time.monotonic() - began < 5
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert len(stage.scored) == 42
        assert stage.dropped == 40
        assert {one.response.text for one in stage.scored if one.toxicity is not None} == {"a", "b"}

    asyncio.run(story())


def test_closing_while_the_scorer_is_loaded_leaves_no_process():
    async def story():
        async with staged("profanity", drain=0.05) as stage:
            stage.put("a")
            while not stage.queue.pids:
                await asyncio.sleep(0.01)
            (pid,) = stage.queue.pids
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert [one.toxicity for one in stage.scored] == [None]

    asyncio.run(story())


def test_two_workers_share_the_queue_and_one_slow_text_holds_up_only_one(cued):
    async def story():
        async with staged("slow", workers=2, drain=0.1) as stage:
            stage.put("SLEEP:60", *map(str, range(5)))
            scores = await stage.until(5)
            assert len(stage.queue.pids) == 2
            return scores

    assert asyncio.run(story()) == dict.fromkeys("01234", 0.1)


def test_a_listener_that_raises_stops_nothing(cued, caplog):
    heard = []

    def listen(scored):
        heard.append(scored.response.text)
        raise RuntimeError("no room")

    async def story():
        queue = ScoringQueue("cued", 3, on_scored=listen)
        for text in "abcd":
            queue.put(said(text))
        queue.start()
        async with asyncio.timeout(120):
            while len(heard) < 4:
                await asyncio.sleep(0.01)
        await queue.close()

    asyncio.run(story())
    assert sorted(heard) == list("abcd")
    assert "no room" in caplog.text
