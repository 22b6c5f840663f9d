"""Limits: admin calls a minute, choices of a request."""

import json

import pytest

from service.api.rate_limits import AdminLimit, check_choices
from service.errors import InvalidRequestError, TooManyRequestsError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(limit: AdminLimit, caller: str, calls: int) -> int:
    """How many of so many calls are let through."""
    through = 0
    for _ in range(calls):
        try:
            limit.take(caller)
            through += 1
        except TooManyRequestsError:
            pass
    return through


def test_so_many_calls_may_come_at_once_and_then_as_many_a_minute():
    clock = Clock()
    limit = AdminLimit(60, clock)
    assert taken(limit, "a", 100) == 60
    clock.now += 10
    assert taken(limit, "a", 100) == 10
    clock.now += 3600
    assert taken(limit, "a", 100) == 60


@pytest.mark.parametrize("calls", [1, 7, 60, 600, 100_000])
def test_a_refused_caller_is_told_when_to_come_again(calls):
    clock = Clock()
    limit = AdminLimit(calls, clock)
    taken(limit, "a", calls)
    with pytest.raises(TooManyRequestsError, match="EXCISE_MAX_ADMIN_CALLS") as caught:
        limit.take("a")
    wait = caught.value.retry_after
    assert caught.value.status == 429
    assert caught.value.headers == {"Retry-After": str(wait)}
    assert wait == max(1, -(-60 // calls))
    clock.now += wait
    limit.take("a")


def test_one_caller_does_not_use_up_the_calls_of_another():
    limit = AdminLimit(5, Clock())
    assert taken(limit, "a", 50) == 5
    assert taken(limit, "b", 50) == 5
    assert taken(limit, "a", 50) == 0


def test_callers_who_are_long_gone_are_forgotten():
    clock = Clock()
    limit = AdminLimit(5, clock)
    for number in range(1000):
        limit.take(f"key {number}")
        clock.now += 60
    assert len(limit._buckets) <= 2


def test_a_clock_put_back_takes_no_calls_away():
    clock = Clock()
    limit = AdminLimit(5, clock)
    limit.take("a")
    clock.now -= 500
    assert taken(limit, "a", 50) == 4


@pytest.mark.parametrize("name", ["n", "best_of"])
@pytest.mark.parametrize("value", [17, 10**30, 17.0, 1e15, "17", " 17 ", "1_7", "17.0", "9" * 100])
def test_too_many_choices_are_refused_however_they_are_written(name, value):
    with pytest.raises(InvalidRequestError, match="is 16 ") as caught:
        check_choices({"n": 1, name: value}, 16)
    assert (caught.value.status, caught.value.param) == (400, name)


@pytest.mark.parametrize(
    "value",
    [1, 16, 0, -5, 16.0, "16", None, True, False, 16.5, 99.5, 1e300, "many", "", [99], {"n": 99}, "9" * 5000]
    + [json.loads(text) for text in ("Infinity", "-Infinity", "NaN")],
)
def test_what_is_allowed_or_no_whole_number_is_left_to_vllm(value):
    check_choices({"n": value, "best_of": value}, 16)
    check_choices({}, 16)
