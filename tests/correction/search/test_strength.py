"""Strength: gates from scores, and the strength that spends a budget."""

from math import inf, nan

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from correction.attribution.relevance import Relevance
from correction.search.strength import (
    find_dose,
    gated_count,
    gates_from_scores,
    graded_gates,
    hard_gates,
    trained_gates,
    union_gates,
)

GRID = np.array([0, 0.5, 0.75, 1])


@given(st.lists(st.floats(-3, 3)))
def test_dampening_is_rounded_to_the_nearest_of_the_grid(dampened):
    for asked, gate in zip(dampened, gates_from_scores(np.array(dampened, dtype=np.float64)), strict=True):
        distances = abs(GRID - asked)
        assert 1 - gate in GRID
        assert distances[1 - gate == GRID] == distances.min()


def test_gates_of_what_lies_beyond_the_grid():
    found = gates_from_scores(np.array([-inf, -1.0, 0.0, 0.24, 0.26, 0.62, 0.63, 0.87, 0.88, 5.0, inf]))
    assert found.tolist() == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0, 0, 0]


def scores(*values, name="neurons.0"):
    return Relevance("neuron", {name: torch.tensor(values)}, 1)


def test_a_strength_dampens_by_score_and_leaves_the_rest_alone():
    found = graded_gates(scores(-1.0, 0.5, -0.3, -0.05, 0.0, inf, -2.0), 2.0)
    assert found == {"neurons.0": {0: 0.0, 2: 0.5, 6: 0.0}}
    assert graded_gates(scores(1.0, 0.0), 10.0) == {}


def test_a_score_that_is_not_a_number_is_never_cut():
    assert graded_gates(scores(nan, -1.0), 1.0) == {"neurons.0": {1: 0.0}}


def test_hard_cuts_the_first_ones():
    assert hard_gates(scores(-1.0, 0.5, -3.0), 1.6)["neurons.0"].tolist() == [0, 2]


def test_both_takes_the_smaller_gate():
    one = {"neurons.0": {1: 0.5, 9: 0.0}, "weights.a": np.array([3, 7])}
    other = {"neurons.0": {4: 0.25, 1: 0.25, 9: 0.5}, "heads.1": {0: 0.0}, "weights.a": np.array([1, 7])}
    for found in (union_gates(one, other), union_gates(other, one)):
        assert found["neurons.0"] == {1: 0.25, 4: 0.25, 9: 0.0}
        assert list(found["neurons.0"]) == [1, 4, 9]
        assert found["heads.1"] == {0: 0.0}
        assert found["weights.a"].tolist() == [1, 3, 7]
        assert gated_count(found) == 7
    assert one["neurons.0"] == {1: 0.5, 9: 0.0}
    assert union_gates({}, one) == one


# --- dose ------------------------------------------------------------------------------------------------------------


def run(cost, *, start=1.0, most=1e9, tries=6):
    asked = []

    def spent(amount):
        asked.append(amount)
        return cost(amount)

    return find_dose(lambda amount: amount, spent, start=start, most=most, tries=tries), asked


@given(st.floats(0.5, 3), st.floats(-3, 4), st.floats(-2, 2), st.integers(1, 8))
def test_what_is_found_never_costs_too_much_and_takes_few_tries(power, limit, start, tries):
    found, asked = run(lambda amount: (amount / 10**limit) ** power, start=10**start, tries=tries)
    assert len(asked) <= tries
    assert all(0 < amount <= 1e9 for amount in asked)
    if found is not None:
        assert found in asked
        assert (found / 10**limit) ** power <= 1
        assert all(amount <= found for amount in asked if (amount / 10**limit) ** power <= 1)


@given(st.floats(0.8, 2), st.floats(-0.9, 1.2))
def test_a_budget_is_spent_to_most_of_it(power, limit):
    """From a start that is off by a factor of 8 downwards or 16 upwards, by any power near the one that is assumed."""
    found, _ = run(lambda amount: (amount / 10**limit) ** power)
    assert found is not None
    assert (found / 10**limit) ** power > 0.6


@given(st.lists(st.floats(0, 2), min_size=1, max_size=30), st.integers(1, 30))
def test_steps_are_met_from_below(steps, start):
    """Costs that jump, as those of whole components do."""
    costs = np.cumsum(steps)
    found, _ = run(lambda amount: float(costs[min(int(amount), len(costs)) - 1]) if amount >= 1 else 0.0, start=start)
    if found is not None and found >= 1:
        assert costs[min(int(found), len(costs)) - 1] <= 1


def test_where_everything_fits_everything_is_taken():
    assert run(lambda amount: 0.0, most=20.0) == (20.0, [1.0, 8.0, 20.0])
    assert run(lambda amount: 0.5, start=30.0, most=20.0) == (20.0, [20.0])


def test_where_nothing_fits_nothing_is_found():
    found, asked = run(lambda amount: 100.0)
    assert found is None
    assert len(asked) <= 3
    assert run(lambda amount: inf)[0] is None


@pytest.mark.parametrize("value", [-0.2, 0.0])
def test_a_cut_that_costs_nothing_is_followed_by_a_larger_one(value):
    found, asked = run(lambda amount: value if amount < 50 else 3.0)
    assert asked[:3] == [1.0, 8.0, 64.0]
    assert 8 <= found < 50


def test_of_trained_gates_the_most_dampened_are_kept():
    scores = Relevance(
        "neuron", {"neurons.0": torch.tensor([-0.3, -0.9, 1.0]), "neurons.1": torch.tensor([-0.7, 0.1])}, 1
    )
    assert trained_gates(scores, 1.0) == {"neurons.0": {0: 0.5, 1: 0.0}, "neurons.1": {0: 0.25}}
    assert trained_gates(scores, 0.67) == {"neurons.0": {1: 0.0}, "neurons.1": {0: 0.25}}
    assert trained_gates(scores, 2.0) == {"neurons.0": {0: 0.5, 1: 0.0}, "neurons.1": {0: 0.0}}
    assert trained_gates(scores, 0.1) == {}
