import math
from itertools import product

import numpy as np
import pytest

from stats.sequential import split_log_e_value


def test_its_mean_over_all_outcomes_is_one():
    weights, n, mean = np.array([0.5, 0.3, 0.2]), 8, 0.0
    for a, b in product(range(n + 1), repeat=2):
        if a + b <= n:
            counts = (a, b, n - a - b)
            chance = math.factorial(n) / math.prod(map(math.factorial, counts)) * math.prod(weights**counts)
            mean += chance * math.exp(split_log_e_value([(counts, weights)]))
    assert mean == pytest.approx(1, abs=1e-12)


def test_a_broken_split_is_seen_and_a_good_one_is_not():
    assert split_log_e_value([((5000, 5060), (1, 1))]) < 0
    assert split_log_e_value([((5000, 5500), (1, 1))]) > math.log(1000)
    assert split_log_e_value([((50_000, 400, 600), (100, 1, 1))]) > math.log(1000)


def test_strata_multiply_and_weights_need_no_sum():
    one, other = ((40, 60), (1, 3)), ((10, 5), (0.5, 0.5))
    both = split_log_e_value([one, other])
    assert both == pytest.approx(split_log_e_value([one]) + split_log_e_value([other]))
    assert split_log_e_value([((40, 60), (0.25, 0.75))]) == pytest.approx(split_log_e_value([one]))


def test_weight_zero_takes_no_units():
    assert split_log_e_value([((7, 9, 0), (1, 1, 0))]) == pytest.approx(split_log_e_value([((7, 9), (1, 1))]))
    assert split_log_e_value([((7, 9, 1), (1, 1, 0))]) == math.inf


def test_nothing_is_said_without_units():
    assert split_log_e_value([]) == split_log_e_value([((0, 0), (1, 1))]) == 0


def test_false_alarms_are_rare_however_often_one_looks():
    random, alarms, runs = np.random.default_rng(0), 0, 300
    for _ in range(runs):
        treated = np.cumsum(random.random(5000) < 0.05)
        looks = range(50, 5001, 50)
        alarms += any(
            split_log_e_value([((look - int(treated[look - 1]), int(treated[look - 1])), (0.95, 0.05))]) >= math.log(20)
            for look in looks
        )
    assert alarms <= 0.05 * runs


@pytest.mark.parametrize("stratum", [((1, 2), (1,)), ((-1, 2), (1, 1)), ((1, 2), (0, 0)), ((1, 2), (1, -1))])
def test_counts_and_weights_that_do_not_fit_are_refused(stratum):
    with pytest.raises(ValueError, match="weight"):
        split_log_e_value([stratum])
