import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from correction import selection
from correction.contrast import contrast
from correction.errors import CriterionError, SelectionError
from correction.relevance import Relevance
from correction.selection import budget, components, select

FEW_VALUES = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, math.inf, -math.inf, math.nan])  # many ties
SCORES = st.lists(st.lists(FEW_VALUES | st.floats(-4, 4, width=32), min_size=1, max_size=12), min_size=1, max_size=4)


def relevance(*rows):
    return Relevance("neuron", {f"neurons.{n}": torch.tensor(row) for n, row in enumerate(rows)}, 1)


def flat(selected):
    return [(name, int(index)) for name, cut in selected.items() for index in cut]


@settings(deadline=None, max_examples=300)
@given(rows=SCORES, data=st.data(), chunk=st.integers(1, 5))
def test_selection_equals_sorting_everything(rows, data, chunk):
    scores = relevance(*rows)
    count = data.draw(st.integers(1, len(scores)))
    ranked = [(v, n, i) for n, row in enumerate(rows) for i, v in enumerate(row) if not math.isnan(v)]
    ranked.sort(key=lambda item: item[0])  # stable: equal scores stay in component order
    whole = selection._CHUNK
    selection._CHUNK = chunk
    try:
        if count > len(ranked):
            with pytest.raises(SelectionError, match=r"NaN|are numbers"):
                select(scores, count=count)
            return
        found = select(scores, count=count)
    finally:
        selection._CHUNK = whole
    assert sorted(flat(found)) == sorted((f"neurons.{n}", i) for _, n, i in ranked[:count])
    assert all(cut.dtype == np.int64 and (np.diff(cut) > 0).all() for cut in found.values())


@settings(deadline=None)
@given(rows=st.lists(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=5), min_size=1, max_size=3))
def test_contrast_is_general_minus_behaviour(rows):
    general = relevance(*rows)
    behaviour = relevance(*[[2 * value - 1 for value in row] for row in rows])
    found = contrast(general, behaviour)
    for n, row in enumerate(rows):
        for value, difference in zip(row, found.scores[f"neurons.{n}"].tolist(), strict=True):
            assert difference == np.float32(value) - np.float32(2 * value - 1)


def test_contrast_of_other_components_is_refused():
    with pytest.raises(CriterionError, match="other components"):
        contrast(relevance([1.0, 2.0]), relevance([1.0]))


def test_weights_are_selected_by_flat_index():
    scores = Relevance("weight", {"weights.a": torch.tensor([[3.0, 1.0], [2.0, 9.0]])}, 1)
    neurons, weights = components(select(scores, count=2))
    assert neurons == {}
    assert weights["a"].tolist() == [1, 2]


def test_a_fraction_is_of_all_components():
    scores = relevance([5.0, 4.0, 3.0], [2.0, 1.0])
    assert budget(len(scores), "neuron", fraction=0.4) == 2
    assert budget(len(scores), "neuron", fraction=1e-9) == 1
    assert flat(select(scores, fraction=0.4)) == [("neurons.1", 0), ("neurons.1", 1)]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "count or a fraction"),
        ({"count": 1, "fraction": 0.5}, "only one"),
        ({"count": 3}, "this model has 2 neurons"),
        ({"count": 0}, "1 to 2"),
        ({"fraction": 1.5}, "at most 1"),
        ({"fraction": 0.0}, "over 0"),
        ({"count": 1, "scope": "galaxy"}, "scope 'galaxy'"),
    ],
)
def test_a_budget_that_does_not_fit_is_refused(asked, message):
    with pytest.raises(SelectionError, match=message):
        select(relevance([1.0, 2.0]), **asked)


def test_scores_that_are_all_nan_are_refused():
    with pytest.raises(SelectionError, match="every score is NaN"):
        select(relevance([math.nan, math.nan]), count=1)
