"""Intervals of rates and of their paired differences."""

import math

import numpy as np
import pytest

from stats.errors import StatisticsError
from stats.estimates import bootstrap, by_prompt, mean, mean_difference, newcombe, rate, rate_difference, wilson


def pairs(both, only_after, only_before, neither):
    """Flags before and after, from the four counts."""
    after = [1.0] * (both + only_after) + [0.0] * (only_before + neither)
    before = [1.0] * both + [0.0] * only_after + [1.0] * only_before + [0.0] * neither
    return np.array(before), np.array(after)


def by_roots(both, only_after, only_before, neither):
    """Newcombe's method 10 another way: Wilson's limits are the roots of (x − p)² = z² x (1 − x) / n."""
    n = both + only_after + only_before + neither
    z = 1.959963984540054

    def wilson_roots(p):
        return sorted(np.roots([1 + z * z / n, -2 * p - z * z / n, p * p]).real)

    p, q = (both + only_after) / n, (both + only_before) / n
    (lower, upper), (l2, u2) = wilson_roots(p), wilson_roots(q)
    margins = [both + only_after, only_before + neither, both + only_before, only_after + neither]
    top = both * neither - only_after * only_before
    top = top - n / 2 if top > n / 2 else min(top, 0)
    phi = top / math.sqrt(math.prod(margins)) if min(margins) else 0
    down = np.array([p - lower, -(u2 - q)])
    up = np.array([upper - p, -(q - l2)])
    together = np.array([[1, phi], [phi, 1]])
    return p - q, p - q - math.sqrt(down @ together @ down), p - q + math.sqrt(up @ together @ up)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        # Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables, chapter 8; R's contingencytables.
        ((59, 6, 16, 80), (-0.0621, -0.1186, -0.0046)),  # Cavo et al. 2012
        ((1, 1, 7, 12), (-0.286, -0.507, -0.026)),  # Bentur et al. 2009
    ],
)
def test_newcombes_interval_is_the_published_one(table, expected):
    estimate = newcombe(*pairs(*table))
    digits = 5e-5 if table[0] == 59 else 5e-4
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(expected, abs=digits)


@pytest.mark.parametrize(
    "table", [(10, 3, 7, 20), (0, 5, 2, 30), (30, 0, 0, 1), (5, 9, 8, 4), (0, 0, 12, 0), (6, 0, 0, 0), (1, 0, 0, 9)]
)
def test_newcombes_interval_is_that_of_another_derivation(table):
    estimate = newcombe(*pairs(*table))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(by_roots(*table), abs=1e-9)
    assert -1 <= estimate.low <= estimate.value <= estimate.high <= 1
    turned = newcombe(*reversed(pairs(*table)))
    assert (turned.value, turned.low, turned.high) == pytest.approx((-estimate.value, -estimate.high, -estimate.low))


def test_it_has_width_where_every_pair_changes_alike_or_none_does():
    before, after = pairs(0, 0, 20, 0)
    estimate = newcombe(before, after)
    assert estimate.value == -1
    assert estimate.low == -1
    assert -0.85 < estimate.high < -0.7
    same = newcombe(before, before)
    assert same.value == 0
    assert same.high == -same.low > 0.1
    flat = bootstrap(mean_difference, before, after)
    assert flat.low == flat.high == -1


def test_newcombes_interval_covers_the_difference_as_often_as_it_says():
    generator = np.random.default_rng(4)
    for chances, size in (((0.05, 0.02, 0.25, 0.68), 60), ((0.3, 0.05, 0.15, 0.5), 40), ((0.02, 0.01, 0.45, 0.52), 30)):
        truth = chances[1] - chances[2]
        tables = generator.multinomial(size, chances, size=1500)
        estimates = [newcombe(*pairs(*table)) for table in tables.tolist()]
        covered = np.mean([each.low <= truth <= each.high for each in estimates])
        assert 0.935 <= covered <= 0.99, (chances, covered)


def clustered(generator, prompts, samples, spread=0.8):
    """Flags of samples whose prompts differ in how often they are flagged: mean 0.3."""
    chances = generator.beta(0.3 / spread, 0.7 / spread, size=prompts)
    return (generator.random((prompts, samples)) < chances[:, None]).astype(float).ravel()


def test_a_rate_over_several_samples_is_covered_as_often_as_it_says_and_wilsons_is_not():
    generator = np.random.default_rng(5)
    drawn = [clustered(generator, 80, 10) for _ in range(250)]
    mine = [rate(flags, 10, seed=n) for n, flags in enumerate(drawn)]
    naive = [rate(flags) for flags in drawn]
    assert np.mean([each.low <= 0.3 <= each.high for each in mine]) >= 0.9
    assert np.mean([each.low <= 0.3 <= each.high for each in naive]) < 0.8


def test_a_rate_of_one_sample_is_wilsons_and_of_several_the_bootstrap_of_prompts():
    flags = clustered(np.random.default_rng(6), 30, 4)
    count = int(flags.sum())
    assert rate(flags) == wilson(count, 120)
    estimate, expected = rate(flags, 4, seed=2), bootstrap(mean, by_prompt(flags, 4).mean(-1), seed=2)
    assert (estimate.count, estimate.total, estimate.low, estimate.high) == (count, 120, expected.low, expected.high)


def test_a_rate_of_none_or_all_still_has_an_interval():
    for value, count in ((0.0, 0), (1.0, 12)):
        estimate, limits = rate(np.full(48, value), 4), wilson(count, 12)
        assert (estimate.count, estimate.total) == (4 * count, 48)
        assert (estimate.low, estimate.high) == (limits.low, limits.high)
    ones, zeros = np.ones(48), np.zeros(48)
    assert rate_difference(ones, zeros, 4) == newcombe(np.ones(12), np.zeros(12))


def test_a_difference_over_several_samples_is_the_bootstrap_of_prompts():
    generator = np.random.default_rng(7)
    before, after = clustered(generator, 30, 4), clustered(generator, 30, 4)
    difference = rate_difference(before, after, 4, seed=3)
    means = [by_prompt(flags, 4).mean(-1) for flags in (before, after)]
    assert difference == bootstrap(mean_difference, *means, seed=3)
    assert rate_difference(before, after) == newcombe(before, after)


def test_what_is_not_paired_is_refused():
    with pytest.raises(StatisticsError, match="there are 2, 3"):
        newcombe(np.zeros(2), np.zeros(3))
    with pytest.raises(StatisticsError, match="there are 0, 0"):
        rate_difference(np.zeros(0), np.zeros(0), 2)
    with pytest.raises(StatisticsError, match="7 responses are not 2 to each"):
        rate(np.zeros(7), 2)
    with pytest.raises(StatisticsError, match="0 responses are not 2 to each"):
        rate(np.zeros(0), 2)
