"""Scoring: a real worker process, killed for real."""

import asyncio
import os
import signal

import pytest
from prometheus_client import REGISTRY

from service.scoring import Response, ScoringQueue


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def until(condition, limit=30.0):
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.02)


def test_responses_are_counted_by_mask_as_toxic_and_repetitive():
    async def story():
        queue = ScoringQueue("profanity", 100)
        queue.start()
        queue.put(Response("count@1", "You are a stupid idiot, you fool.", list(range(9))))
        queue.put(Response("count@1", "The river is wide and calm.", [1, 2] * 10))
        queue.put(Response("count@1", "", []))
        await until(lambda: value("excise_toxicity_score_count", mask="count@1") == 3)
        await queue.close()

    asyncio.run(story())
    assert value("excise_toxic_responses_total", mask="count@1") == 1
    assert value("excise_repetitive_responses_total", mask="count@1") == 1
    assert value("excise_uniqueness_ratio_count", mask="count@1") == 2


def test_a_killed_worker_is_started_again():
    async def story():
        queue = ScoringQueue("profanity", 100)
        queue.start()
        queue.put(Response("killed@1", "one", [1]))
        await until(lambda: value("excise_toxicity_score_count", mask="killed@1") == 1)
        assert queue._pool
        for pid in list(queue._pool._processes):
            os.kill(pid, signal.SIGKILL)
        queue.put(Response("killed@1", "two", [1]))
        await until(lambda: value("excise_toxicity_score_count", mask="killed@1") == 2)
        await queue.close()

    asyncio.run(story())


def test_a_full_queue_drops_and_counts_and_never_blocks():
    async def story():
        queue = ScoringQueue("profanity", 5)  # not started: nothing leaves it
        before = value("excise_scoring_dropped_total")
        for _ in range(8):
            queue.put(Response("full@1", "x", [1]))
        assert value("excise_scoring_dropped_total") - before == 3
        await queue.close(limit=0.01)
        assert value("excise_scoring_dropped_total") - before == 8

    asyncio.run(story())


def test_closing_scores_what_is_waiting():
    async def story():
        queue = ScoringQueue("profanity", 1000)
        queue.start()
        for _ in range(200):
            queue.put(Response("closing@1", "fine words", [1, 2]))
        await queue.close(limit=30)

    asyncio.run(story())
    assert value("excise_toxicity_score_count", mask="closing@1") == 200


@pytest.mark.parametrize("name", ["nonsense"])
def test_a_scorer_that_cannot_start_drops_and_goes_on(name):
    async def story():
        queue = ScoringQueue(name, 10)
        queue.start()
        before = value("excise_scoring_dropped_total")
        queue.put(Response("base", "x", [1]))
        await until(lambda: value("excise_scoring_dropped_total") == before + 1)
        await queue.close()

    asyncio.run(story())
