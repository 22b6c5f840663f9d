import math
from itertools import pairwise

import numpy as np
import pytest

from service.experiments.outcomes.totals import LATENCY_EDGES, MOST_TOKENS, SUMS, Outcome, Totals
from service.storage.tables import BUCKETS, STATISTICS, outcomes


def outcome(**more) -> Outcome:
    return Outcome(
        **{"experiment": "e", "epoch": 0, "variant": "a", "unit": "u", "counted": True, "by_user": False} | more
    )


def total(*them: Outcome) -> Totals:
    numbers = Totals().numbers()
    for one in them:
        one.count_in(numbers)
    return Totals.of(numbers)


def test_a_row_has_a_column_for_each_sum_in_the_order_of_the_fields():
    assert SUMS == STATISTICS
    assert len(LATENCY_EDGES) + 1 == BUCKETS
    columns = [column.name for column in outcomes.columns if not column.primary_key]
    assert columns == [*SUMS, *(f"latency_{bucket}" for bucket in range(BUCKETS))]


def test_a_response_is_counted_in_every_sum_that_it_belongs_to():
    totals = total(outcome(truncated=True, tokens=30, seconds=0.5, toxic=True, repetitive=True, refusal=True))
    assert (totals.responses, totals.errors, totals.truncated) == (1, 0, 1)
    assert (totals.tokens, totals.tokens_squared, totals.seconds, totals.seconds_squared) == (30, 900, 0.5, 0.25)
    assert (totals.scored, totals.toxic, totals.repetitive, totals.refusals) == (1, 1, 1, 1)


def test_a_failed_request_is_an_error_and_no_response():
    assert total(outcome(error=True, tokens=5, seconds=1.0, toxic=True)) == Totals(errors=1)


def test_what_was_not_scored_says_nothing_of_its_text():
    totals = total(outcome(toxic=None, repetitive=True, refusal=True))
    assert (totals.responses, totals.scored, totals.repetitive, totals.refusals) == (1, 0, 0, 0)
    assert total(outcome(toxic=False)).scored == 1


@pytest.mark.parametrize(("seconds", "bucket"), [(0.0, 0), (0.01, 0), (0.0101, 1), (120.0, 95), (120.1, 96), (1e6, 96)])
def test_a_latency_falls_into_the_bucket_whose_upper_edge_it_does_not_exceed(seconds, bucket):
    latency = total(outcome(seconds=seconds)).latency
    assert latency[bucket] == 1
    assert sum(latency) == 1


def test_edges_rise_by_the_same_factor_from_a_hundredth_of_a_second_to_two_minutes():
    assert (LATENCY_EDGES[0], LATENCY_EDGES[-1]) == (0.01, 120.0)
    ratios = [high / low for low, high in pairwise(LATENCY_EDGES)]
    assert min(ratios) == pytest.approx(max(ratios), rel=1e-3)


def test_sums_over_two_parts_are_those_over_the_whole():
    parts = [outcome(tokens=n, seconds=n / 4, toxic=n % 3 == 0, error=n % 5 == 0) for n in range(20)]
    assert total(*parts[:7]) + total(*parts[7:]) == total(*parts)
    assert total(*parts) + Totals() == total(*parts)


def test_numbers_of_numpy_become_numbers_that_a_database_takes():
    totals = total(
        outcome(tokens=np.int64(3), seconds=np.float32(0.5), toxic=np.bool_(True), repetitive=np.bool_(True))
    )
    assert {type(number) for number in totals.numbers()} == {int, float}
    numbers = Totals().numbers()
    outcome(tokens=np.int64(3), seconds=np.float32(0.5), toxic=np.bool_(True)).count_in(numbers)
    assert {type(number) for number in numbers} == {int, float}


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokens": -1},
        {"tokens": MOST_TOKENS + 1},
        {"seconds": -0.1},
        {"seconds": math.nan},
        {"seconds": math.inf},
        {"variant": "v" * 65},
        {"experiment": "e" * 65},
    ],
    ids=str,
)
def test_what_no_database_could_keep_is_refused_before_it_holds_up_the_others(wrong):
    with pytest.raises(ValueError, match="outcome of"):
        outcome(**wrong)
