"""The queue of what is judged: which responses, one at a time, never in the way, and what is dropped is counted."""

from __future__ import annotations

import asyncio

import pytest

from service import metrics
from service.routing.policy import Assigned
from service.scoring.coherence import Coherence
from service.scoring.response import Response


def response(number=0, *, share=1.0, **more):
    where = Assigned("ab", 0, "v1", f"user:{number}", True, True, share=share)
    given = {"context": (1, 2), "unit": f"user-{number}", "assigned": where, **more}
    return Response("detox@1", "text", (3, 4), **given)


class Judge:
    """Answers what it is told to, and keeps what it was asked."""

    def __init__(self, found=-1.5, seconds=0.0):
        self.found, self.seconds, self.asked = found, seconds, []

    async def __call__(self, context, said):
        self.asked.append((tuple(context), tuple(said)))
        await asyncio.sleep(self.seconds)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def dropped():
    return metrics.COHERENCE_DROPPED._value.get()


def judged(responses, judge, *, rate=1.0, capacity=1000, limit=60.0, users=0, seconds=1.0):
    """What is handed on of these responses within ``seconds``."""
    scores = []

    async def run():
        queue = Coherence(rate, capacity, judge, lambda one, value: scores.append((one, value)), limit=limit)
        queue.users = users
        for one in responses:
            queue.put(one)
        queue.start()
        deadline = asyncio.get_running_loop().time() + seconds
        while len(judge.asked) < len(responses) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)
        await queue.close()

    asyncio.run(run())
    return scores


def test_a_response_is_judged_after_its_prompt():
    judge, one = Judge(-1.5), response()
    assert judged([one], judge) == [(one, -1.5)]
    assert judge.asked == [((1, 2), (3, 4))]


@pytest.mark.parametrize(("found", "kept"), [(-1e30, -100.0), (0.001, 0.0)])
def test_what_is_impossible_or_rounded_stays_in_its_bounds(found, kept):
    assert [value for _, value in judged([response()], Judge(found))] == [kept]


@pytest.mark.parametrize("more", [{"counted": False}, {"context": ()}])
def test_later_choices_and_what_has_no_prompt_are_not_judged(more):
    assert judged([response(**more)], Judge(), seconds=0.05) == []


def test_of_each_variant_as_many_are_judged_whatever_its_share():
    queue = Coherence(0.05, 1000, Judge(), lambda one, value: None)
    rare = sum(queue.chooses(response(number, share=0.05)) for number in range(1000))
    half = sum(queue.chooses(response(number, share=0.5)) for number in range(4000))
    other = sum(queue.chooses(response(number, assigned=None)) for number in range(4000))
    assert rare == 1000
    assert 330 < half < 470
    assert other == 0, "what is in no experiment costs nothing"


def test_a_user_is_judged_always_or_never():
    queue = Coherence(0.5, 1000, Judge(), lambda one, value: None)
    for number in range(20):
        assert len({queue.chooses(response(number, share=1.0)) for _ in range(5)}) == 1


def test_a_full_queue_drops_and_counts():
    before = dropped()
    queue = Coherence(1.0, 3, Judge(), lambda one, value: None)
    for number in range(5):
        queue.put(response(number))
    assert dropped() - before == 2


def test_one_that_fails_is_dropped_and_the_next_is_judged():
    before, judge = dropped(), Judge(RuntimeError("no log-probabilities"))
    assert judged([response(1), response(2)], judge) == []
    assert len(judge.asked) == 2 and dropped() - before == 2


def test_one_that_takes_too_long_is_given_up():
    before = dropped()
    assert judged([response()], Judge(seconds=30), limit=0.02, seconds=0.2) == []
    assert dropped() - before == 1


def test_while_users_wait_it_takes_a_twentieth_of_the_time():
    busy, idle = Judge(seconds=0.02), Judge(seconds=0.02)
    responses = [response(number) for number in range(100)]
    judged(responses, busy, users=1, seconds=0.9)
    judged(responses, idle, users=0, seconds=0.9)
    assert 1 <= len(busy.asked) <= 4
    assert len(idle.asked) > 3 * len(busy.asked)
