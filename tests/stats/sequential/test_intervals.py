import math

import numpy as np
import pytest
import ville
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.sequential import (
    Count,
    Stratum,
    difference_interval,
    difference_lower_bound,
    log_e_value,
    log_e_value_at_most,
    rate_interval,
)
from stats.sequential.intervals import rate_log_e_value

LIMIT = math.log(20)


def stratum(k_a, n_a, k_b, n_b, share=0.5):
    return Stratum(Count(k_a, n_a), Count(k_b, n_b), share)


CASES = [
    [stratum(30, 2950, 59, 2950)],
    [stratum(0, 400, 0, 20, 0.05)],
    [stratum(0, 9, 1, 1)],
    [stratum(20, 20, 0, 20)],
    [stratum(60, 3000, 20, 3000)],
    [stratum(20_000_000, 10**9, 20_001_500, 10**9)],
    [stratum(40, 2000, 1, 20, 0.01), stratum(38, 1900, 1, 100, 0.05), stratum(40, 2000, 20, 2000)],
]


def test_a_rate_is_bounded_as_ville_bounds_it():
    values = (np.random.default_rng(3).random(3000) < 0.02).astype(float)
    theirs = ville.BernoulliCS(0.05, prior=(0.5, 0.5), intersect=False).fit(values)
    for n in (1, 10, 400, 3000):
        low, high = rate_interval(Count(int(values[:n].sum()), n), 0.05)
        width = theirs.upper_[n - 1] - theirs.lower_[n - 1]
        assert theirs.lower_[n - 1] - 3e-3 * width <= low <= theirs.lower_[n - 1] + 1e-9
        assert theirs.upper_[n - 1] - 1e-9 <= high <= theirs.upper_[n - 1] + 3e-3 * width


def test_the_e_value_of_a_rate_is_that_of_ville():
    values = (np.random.default_rng(4).random(500) < 0.1).astype(float)
    theirs = ville.BernoulliTest(0.07, prior=(0.5, 0.5)).fit(values).log_e_values_
    ours = [rate_log_e_value(int(values[:n].sum()), n, 0.07) for n in (1, 60, 500)]
    assert ours == pytest.approx(theirs[[0, 59, 499]], abs=1e-9)


@pytest.mark.parametrize(
    ("count", "end"), [(Count(0, 0), 2), (Count(0, 50), 0), (Count(50, 50), 1), (Count(7, 50), None)]
)
def test_ends_of_the_possible_stay_inside_where_nothing_rejects_them(count, end):
    low, high = rate_interval(count, 0.05)
    assert (low == 0) == (end in (0, 2)) and (high == 1) == (end in (1, 2))


def test_a_rate_is_covered_at_all_times():
    random, missed = np.random.default_rng(1), 0
    for _ in range(300):
        events = np.cumsum(random.random(2000) < 0.03)
        log_e = np.array([rate_log_e_value(int(events[n - 1]), n, 0.03) for n in range(20, 2001, 20)])
        missed += bool((log_e >= LIMIT).any())
    assert missed <= 0.05 * 300


@pytest.mark.parametrize("strata", CASES)
def test_interval_and_test_agree(strata):
    low, high = difference_interval(strata, 0.05)
    width = high - low
    for difference in (low, low - 0.05 * width, high, high + 0.05 * width):
        if -1 < difference < 1:
            assert log_e_value(strata, difference) >= LIMIT - 0.03 * (len(strata) > 1)
    for part in (0.01, 0.5, 0.99):
        assert log_e_value(strata, low + part * width) < LIMIT


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.5, 0.05]))
def test_zero_is_in_the_interval_exactly_where_it_is_not_rejected(n_a, n_b, a, b, share):
    strata = [stratum(round(a * n_a), n_a, round(b * n_b), n_b, share)]
    low, high = difference_interval(strata, 0.05)
    assert -1 <= low < high <= 1
    assert (low < 0 < high) == (log_e_value(strata) < LIMIT)
    assert (difference_lower_bound(strata, 0.05) < 0) == (log_e_value_at_most(strata) < LIMIT)


def test_exchanged_variants_mirror_the_interval():
    for strata in CASES[:5]:
        low, high = difference_interval(strata, 0.05)
        mirrored = difference_interval([one.swapped() for one in strata], 0.05)
        assert mirrored == pytest.approx((-high, -low), abs=5e-3 * (high - low))


def test_less_confidence_is_narrower():
    wide, narrow = (difference_interval(CASES[0], alpha) for alpha in (0.01, 0.2))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_bounds_of_one_side_are_tighter_than_the_interval():
    low, high = difference_interval(CASES[0], 0.05)
    turned = [stratum.swapped() for stratum in CASES[0]]
    assert low < difference_lower_bound(CASES[0], 0.05) < -difference_lower_bound(turned, 0.05) < high
    assert difference_lower_bound([], 0.05) == -1
    assert difference_interval([stratum(3, 9, 0, 0)], 0.05) == (-1, 1)


def test_strata_that_contradict_each_other_are_all_covered():
    strata = [stratum(10, 1000, 100, 1000), stratum(100, 1000, 10, 1000)]
    assert log_e_value(strata) > LIMIT
    low, high = difference_interval(strata, 0.05)
    assert low < -0.09 and high > 0.09


def test_the_difference_is_covered_at_all_times():
    random, missed, runs = np.random.default_rng(2), 0, 100
    for _ in range(runs):
        treated = random.random(3000) < 0.5
        events = random.random(3000) < np.where(treated, 0.08, 0.05)
        for look in (50, 100, 200, 400, 800, 1600, 3000):
            b, e = treated[:look], events[:look]
            one = stratum(int((e & ~b).sum()), int((~b).sum()), int((e & b).sum()), int(b.sum()))
            if log_e_value([one], 0.03) >= LIMIT:  # then, and only then, the interval leaves it out
                missed += 1
                break
    assert missed <= 0.05 * runs


@pytest.mark.parametrize("alpha", [0, 1, -0.1, math.nan])
def test_an_impossible_alpha_is_refused(alpha):
    for call in (lambda: rate_interval(Count(1, 2), alpha), lambda: difference_interval(CASES[0], alpha)):
        with pytest.raises(ValueError, match="alpha"):
            call()
