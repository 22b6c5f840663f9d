import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from stats.sequential import Count, Stratum, log_e_value, log_e_value_at_least, log_e_value_at_most
from stats.sequential.effect_prior import EITHER, INCREASES
from stats.sequential.likelihood_ratios import Cells, log_ratios
from stats.sequential.null_infimum import evidence
from tests.stats.sequential import slow


def stratum(k_a, n_a, k_b, n_b, share=0.5):
    return Stratum(Count(k_a, n_a), Count(k_b, n_b), share)


@st.composite
def strata(draw, most=10**4):
    n_a, n_b = draw(st.integers(0, most)), draw(st.integers(0, most))
    share = draw(st.sampled_from([0.5, 0.05, 0.9, 0.0, 1.0]))
    return stratum(draw(st.integers(0, n_a)), n_a, draw(st.integers(0, n_b)), n_b, share)


@pytest.mark.parametrize("effects", [EITHER, INCREASES])
def test_masses_sum_to_one(effects):
    assert math.fsum(np.exp(effects.log_masses)) == pytest.approx(1, abs=1e-12)
    assert (effects is EITHER) == bool((effects.sizes < 0).any())


@pytest.mark.parametrize("effects", [EITHER, INCREASES])
@pytest.mark.parametrize(
    ("cells", "difference", "rate"),
    [
        ((1, 3, 2, 4, 0.5), 0.0, 0.4),
        ((0, 30, 7, 40, 0.1), 0.05, 0.02),
        ((30, 30, 0, 2, 0.9), -0.3, 0.95),
        ((12, 900, 30, 100, 0.1), 0.0, 0.03),
    ],
)
def test_the_martingale_is_the_slow_one(cells, difference, rate, effects):
    table = log_ratios(Cells(*cells), [rate], difference, effects)
    slowly = float(slow.mpmath.log(slow.martingale([cells], [rate], difference, effects)))
    assert logsumexp(table + effects.log_masses, axis=1)[0] == pytest.approx(slowly, abs=1e-8)


@pytest.mark.parametrize(("difference", "effects"), list(product([0.0, 0.1, -0.5], [EITHER, INCREASES])))
def test_the_martingale_has_mean_one_or_less_over_all_outcomes(difference, effects):
    n_a, n_b = 7, 5
    for rate in np.linspace(max(0, -difference) + 1e-3, min(1, 1 - difference) - 1e-3, 7):
        mean = 0.0
        for k_a, k_b in product(range(n_a + 1), range(n_b + 1)):
            chance = math.comb(n_a, k_a) * rate**k_a * (1 - rate) ** (n_a - k_a)
            other = rate + difference
            chance *= math.comb(n_b, k_b) * other**k_b * (1 - other) ** (n_b - k_b)
            table = log_ratios(Cells(k_a, n_a, k_b, n_b, 0.3), [rate], difference, effects)
            mean += chance * math.exp(logsumexp(table + effects.log_masses))
        assert mean == pytest.approx(1, abs=1e-9)


def best_stopping(a, b, horizon, value):
    """The most that any rule can get on average which chooses the next variant, and when to stop, by the counts."""
    worth = {}
    for total in range(horizon, -1, -1):
        for n_a in range(total + 1):
            n_b = total - n_a
            for k_a, k_b in product(range(n_a + 1), range(n_b + 1)):
                best = value(k_a, n_a, k_b, n_b)
                if total < horizon:
                    on_a = a * worth[k_a + 1, n_a + 1, k_b, n_b] + (1 - a) * worth[k_a, n_a + 1, k_b, n_b]
                    on_b = b * worth[k_a, n_a, k_b + 1, n_b + 1] + (1 - b) * worth[k_a, n_a, k_b, n_b + 1]
                    best = max(best, on_a, on_b)
                worth[k_a, n_a, k_b, n_b] = best
    return worth[0, 0, 0, 0]


@pytest.fixture(scope="module")
def evidence_of():
    known = {}

    def value(name, function, difference, share):
        def one(*counts):
            key = (name, difference, share, counts)
            if key not in known:
                known[key] = math.exp(function([stratum(*counts, share)], difference))
            return known[key]

        return one

    return value


@pytest.mark.parametrize(("difference", "share"), [(0.0, 0.5), (0.0, 0.1), (0.3, 0.5)])
def test_no_rule_of_stopping_and_choosing_gains_under_equal_differences(evidence_of, difference, share):
    value = evidence_of("equal", log_e_value, difference, share)
    for rate in (0.02, 0.2, 0.5, 0.69):
        assert best_stopping(rate, rate + difference, 9, value) <= 1 + 1e-9


@pytest.mark.parametrize("difference", [0.0, 0.2])
def test_no_rule_gains_inside_the_one_sided_null(evidence_of, difference):
    value = evidence_of("at most", log_e_value_at_most, difference, 0.5)
    for a, b in product((0.05, 0.5, 0.9, 1.0), (0.0, 0.05, 0.3, 0.9, 1.0)):
        if b <= a + difference:
            assert best_stopping(a, b, 8, value) <= 1 + 1e-9


def test_no_rule_gains_over_two_strata():
    """The second stratum's counts are drawn first in half of the cases: late responses of an old epoch do no harm."""
    sizes = (2, 2)
    counts = [(n, k) for n in range(sizes[0] + 1) for k in range(n + 1)]
    worth: dict[tuple[tuple[int, int], ...], float] = {}
    rates = (0.2, 0.2, 0.6, 0.6)
    for state in sorted(product(counts, repeat=4), key=lambda state: -sum(n for n, _ in state)):
        (n_a, k_a), (n_b, k_b), (m_a, l_a), (m_b, l_b) = state
        best = math.exp(log_e_value([stratum(k_a, n_a, k_b, n_b), stratum(l_a, m_a, l_b, m_b, 0.2)]))
        for arm, (n, k) in enumerate(state):
            if n < sizes[0]:
                hit, miss = ((*state[:arm], (n + 1, k + one), *state[arm + 1 :]) for one in (1, 0))
                best = max(best, rates[arm] * worth[hit] + (1 - rates[arm]) * worth[miss])
        worth[state] = best
    assert worth[((0, 0),) * 4] <= 1 + 1e-9


@settings(max_examples=60, deadline=None)
@given(strata(), st.sampled_from([0.0, 0.01, -0.2, 0.9]), st.sampled_from([EITHER, INCREASES]))
def test_the_infimum_is_not_above_a_fine_grid(one, difference, effects):
    cells = Cells.of(one)
    infimum = evidence([cells], difference, effects)
    low, high = max(0.0, -difference), min(1.0, 1 - difference)
    rates = low + (high - low) * np.sin(np.linspace(0, math.pi, 2001) / 2) ** 2
    least = (logsumexp(log_ratios(cells, rates, difference, effects) + effects.log_masses, axis=1)).min()
    assert infimum <= least + 1e-3 + 1e-3 * abs(least)


@settings(max_examples=15, deadline=None)
@given(st.lists(strata(300), min_size=2, max_size=2), st.sampled_from([0.0, 0.05]))
def test_the_bound_for_strata_is_under_a_fine_grid_and_near_it(both, difference):
    rates = (1 - difference) * np.sin(np.linspace(0, math.pi, 120) / 2) ** 2
    tables = [np.minimum(log_ratios(Cells.of(one), rates, difference, EITHER), 1e6) for one in both]
    least = min(float(logsumexp(tables[1] + (row + EITHER.log_masses), axis=1).min()) for row in tables[0])
    assert log_e_value(both, difference) <= least + 1e-6


def test_strata_with_one_effect_lose_little_against_all_in_one():
    quarters = [stratum(30, 2950, 59, 2950)] * 4
    whole = log_e_value([stratum(120, 11800, 236, 11800)])
    assert whole - 1.5 < log_e_value(quarters) < whole
    assert log_e_value(quarters) > 4 * log_e_value(quarters[:1]) + 3


@settings(max_examples=40, deadline=None)
@given(st.lists(strata(), min_size=1, max_size=2), st.sampled_from([0.0, 0.1, -0.7]))
def test_exchanged_variants_turn_the_sign(several, difference):
    swapped = [one.swapped() for one in several]
    there, back = log_e_value(several, difference), log_e_value(swapped, -difference)
    assert there == pytest.approx(back, rel=1e-3, abs=0.03)
    assert log_e_value_at_least(several, difference) == log_e_value_at_most(swapped, -difference)


def test_more_difference_is_more_evidence():
    log_e_values = [log_e_value([stratum(20, 2000, 20 + more, 2000)]) for more in range(0, 60, 3)]
    assert log_e_values == sorted(log_e_values) and log_e_values[0] < 0 < log_e_values[-1]
    raised = [log_e_value_at_most([stratum(20, 2000, 60, 2000)], d) for d in np.linspace(-0.01, 0.04, 20)]
    assert raised == sorted(raised, reverse=True)


def test_one_side_sees_its_side_only():
    worse, better = [stratum(30, 2950, 75, 2950)], [stratum(75, 2950, 30, 2950)]
    assert log_e_value_at_most(worse) > log_e_value(worse) > 3
    assert log_e_value_at_most(better) < 0 < log_e_value_at_least(better)


def test_nothing_is_said_without_data():
    assert log_e_value([]) == log_e_value([stratum(0, 0, 0, 0)]) == 0
    filled = stratum(3, 100, 9, 100)
    assert log_e_value([filled, stratum(0, 0, 0, 0, 0.1)]) == log_e_value([filled])
    assert log_e_value([stratum(40, 900, 0, 0)]) <= 0
    assert -0.2 < log_e_value([stratum(20, 1000, 0, 0, 0.01)]) <= 0


@pytest.mark.parametrize("counts", [(0, 50, 0, 50), (50, 50, 50, 50), (0, 1, 1, 1)])
@pytest.mark.parametrize("difference", [-1.0, -0.5, 0.0, 0.5, 1.0])
def test_extreme_counts_have_a_value(counts, difference):
    assert not math.isnan(log_e_value([stratum(*counts)], difference))
    assert not math.isnan(log_e_value([stratum(*counts)] * 2, difference))


def test_impossible_counts_are_infinite_evidence():
    assert log_e_value([stratum(0, 9, 8, 9)], 1.0) == math.inf
    assert log_e_value([stratum(0, 9, 8, 9)] * 2, 1.0) == math.inf
    assert log_e_value([stratum(0, 9, 9, 9)], 1.0) <= 0


def test_a_thousand_million_trials():
    equal = stratum(20_000_000, 10**9, 20_001_500, 10**9)
    assert -12 < log_e_value([equal]) < 0
    assert log_e_value([stratum(20_000_000, 10**9, 20_100_000, 10**9)]) > 50


@pytest.mark.parametrize("difference", [1.01, -2, math.nan])
def test_an_impossible_difference_is_refused(difference):
    with pytest.raises(ValueError, match="differ"):
        log_e_value([stratum(1, 2, 1, 2)], difference)


@pytest.mark.parametrize(("events", "trials"), [(3, 2), (-1, 2), (0, -1)])
def test_impossible_counts_are_refused(events, trials):
    with pytest.raises(ValueError, match="events"):
        Count(events, trials)


def test_an_impossible_share_is_refused():
    with pytest.raises(ValueError, match="share"):
        stratum(1, 2, 1, 2, 1.5)


@pytest.mark.parametrize(("rate", "share"), [(0.02, 0.5), (0.1, 0.05)])
def test_false_alarms_are_rare_however_often_one_looks(rate, share):
    random, alarms, runs, looks = np.random.default_rng(5), 0, 200, range(100, 5001, 100)
    for _ in range(runs):
        treated, events = random.random(5000) < share, random.random(5000) < rate
        for look in looks:
            b, e = treated[:look], events[:look]
            one = stratum(int((e & ~b).sum()), int((~b).sum()), int((e & b).sum()), int(b.sum()), share)
            pooled = one.control.events + one.treatment.events
            above = log_ratios(Cells.of(one), [pooled / look], 0.0, EITHER) + EITHER.log_masses
            if logsumexp(above) >= math.log(20) and log_e_value([one]) >= math.log(20):  # the first is never less
                alarms += 1
                break
    assert alarms <= 0.05 * runs
