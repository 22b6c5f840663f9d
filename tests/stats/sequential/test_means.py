import math

import numpy as np
import pytest
import ville

from stats.sequential import Moments, mean_difference_interval, mean_interval
from stats.sequential.means import LEAST, TUNED


def moments(values):
    return Moments(len(values), float(np.sum(values)), float(np.sum(np.square(values))))


def test_a_mean_is_bounded_as_ville_bounds_it():
    values = np.random.default_rng(0).lognormal(size=5000)
    theirs = ville.AsymptoticCS(0.05, t_opt=int(TUNED)).fit(values)
    for n in (LEAST, 700, 5000):
        low, high = mean_interval(moments(values[:n]), 0.05)
        assert low == pytest.approx(theirs.lower_[n - 1], rel=0.01) and high == pytest.approx(
            theirs.upper_[n - 1], rel=0.01
        )


def test_too_few_values_say_nothing():
    few, many = moments(np.arange(LEAST - 1)), moments(np.arange(LEAST))
    assert mean_interval(few, 0.05) == mean_difference_interval([(few, many)], 0.05) == (-math.inf, math.inf)
    assert mean_difference_interval([], 0.05) == (-math.inf, math.inf)
    assert math.isfinite(mean_difference_interval([(many, many)], 0.05)[0])


def test_strata_weigh_harmonically():
    random = np.random.default_rng(1)
    strata = [(moments(random.normal(size=n)), moments(random.normal(1, size=m))) for n, m in ((900, 100), (500, 500))]
    low, high = mean_difference_interval(strata, 0.05)
    weights = np.array([90, 250])
    differences = [b.mean - a.mean for a, b in strata]
    assert (low + high) / 2 == pytest.approx(weights @ differences / weights.sum())
    whole = mean_difference_interval([strata[1]], 0.05)
    assert high - low < whole[1] - whole[0]


def test_a_drift_between_epochs_is_no_difference():
    """Values and weights change together: all values in one would look like a difference."""
    random = np.random.default_rng(2)
    strata = [
        (moments(random.normal(level, size=n)), moments(random.normal(level, size=m)))
        for level, n, m in ((0, 5000, 200), (3, 2000, 2000))
    ]
    low, high = mean_difference_interval(strata, 0.05)
    assert low < 0 < high < 0.5


@pytest.mark.parametrize("share", [0.5, 0.05])
@pytest.mark.parametrize("draw", ["lognormal", "exponential"])
def test_skewed_values_raise_few_false_alarms(share, draw):
    random, alarms, runs, longest = np.random.default_rng(7), 0, 200, 12_000
    for _ in range(runs):
        values, treated = getattr(random, draw)(size=longest), random.random(longest) < share
        looks = np.unique(np.geomspace(200, longest, 80).astype(int)) - 1
        sums = [
            np.cumsum(np.where(side, power, 0))[looks]
            for side in (~treated, treated)
            for power in (1.0, values, values**2)
        ]
        for n_a, t_a, s_a, n_b, t_b, s_b in zip(*sums, strict=True):
            low, high = mean_difference_interval([(Moments(int(n_a), t_a, s_a), Moments(int(n_b), t_b, s_b))], 0.05)
            if not low < 0 < high:
                alarms += 1
                break
    assert alarms <= 0.05 * runs


def test_equal_values_have_no_width_and_no_negative_variance():
    low, high = mean_interval(Moments(1000, 1000 * 0.1, 1000 * 0.1**2), 0.05)
    assert low == pytest.approx(0.1) and high == pytest.approx(0.1)
