import math

import numpy as np
import pytest
import ville

from stats.sequential import quantile_interval

EDGES = np.geomspace(0.01, 120, 32)


def histogram(values):
    return np.bincount(np.searchsorted(EDGES, values), minlength=len(EDGES) + 1).tolist()


def test_the_interval_narrows_around_the_quantile():
    values = np.random.default_rng(0).exponential(size=100_000)
    truth = -math.log(0.05)
    widths = []
    for n in (100, 1000, 100_000):
        low, high = quantile_interval(histogram(values[:n]), EDGES, 0.95, 0.05)
        assert low < truth <= high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True) and widths[-1] < 2.2


def test_it_is_no_wider_than_that_of_ville_by_more_than_two_buckets():
    values = np.random.default_rng(1).exponential(size=4000)
    theirs = ville.QuantileCS(0.5, 0.05, t_opt=2000, intersect=False).fit(values)
    low, high = quantile_interval(histogram(values), EDGES, 0.5, 0.05)
    assert (
        theirs.lower_[-1] / 1.4**2 < low < theirs.upper_[-1] and theirs.lower_[-1] < high < theirs.upper_[-1] * 1.4**2
    )


@pytest.mark.parametrize("values", [np.full(500, 2.0), np.repeat([0.5, 8.0], 250)])
def test_ties_are_covered(values):
    for p in (0.1, 0.5, 0.9):
        low, high = quantile_interval(histogram(values), EDGES, p, 0.05)
        assert low < np.quantile(values, p, method="inverted_cdf") <= high


def test_a_quantile_is_covered_at_all_times():
    random, missed, runs = np.random.default_rng(2), 0, 100
    truth = float(EDGES[18])
    p = 1 - math.exp(-truth)
    for _ in range(runs):
        values = random.exponential(size=1500)
        for look in (20, 40, 80, 160, 320, 640, 1000, 1500):
            low, high = quantile_interval(histogram(values[:look]), EDGES, p, 0.05)
            if not low < truth <= high:
                missed += 1
                break
    assert missed <= 0.05 * runs


def test_nothing_is_said_without_data_or_beyond_the_last_edge():
    assert quantile_interval([0, 0, 0], [1, 2], 0.5, 0.05) == (-math.inf, math.inf)
    assert quantile_interval([0, 0, 1000], [1, 2], 0.5, 0.05) == (2, math.inf)
    assert quantile_interval([1000, 0, 0], [1, 2], 0.5, 0.05) == (-math.inf, 1)


@pytest.mark.parametrize(
    ("buckets", "edges", "p"), [([1, 2], [1, 2], 0.5), ([1, 2, 3], [2, 1], 0.5), ([1, 2, 3], [1, 2], 1)]
)
def test_a_histogram_that_fits_nothing_is_refused(buckets, edges, p):
    with pytest.raises(ValueError, match=r"histogram|quantile"):
        quantile_interval(buckets, edges, p, 0.05)
