import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from correction.attribution.relevance import Relevance
from correction.errors import CriterionError, SelectionError
from correction.selection import smallest
from correction.selection.contrast import contrast
from correction.selection.top_k import (
    component_budget,
    components_by_layer,
    limit_rank,
    parse_pattern,
    select,
    set_difference,
)

FEW_VALUES = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, math.inf, -math.inf, math.nan])  # many ties
SCORES = st.lists(st.lists(FEW_VALUES | st.floats(-4, 4, width=32), min_size=1, max_size=12), min_size=1, max_size=4)


def relevance(*rows):
    return Relevance("neuron", {f"neurons.{n}": torch.tensor(row) for n, row in enumerate(rows)}, 1)


@contextmanager
def chunks_of(size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smallest, "_CHUNK", size)
        yield


def flat(selected):
    return [(name, int(index)) for name, cut in selected.items() for index in cut]


@settings(deadline=None, max_examples=300)
@given(rows=SCORES, data=st.data(), chunk=st.integers(1, 5))
def test_selection_equals_sorting_everything(rows, data, chunk):
    scores = relevance(*rows)
    count = data.draw(st.integers(1, len(scores)))
    ranked = [(v, n, i) for n, row in enumerate(rows) for i, v in enumerate(row) if not math.isnan(v)]
    ranked.sort(key=lambda item: item[0])  # stable: equal scores stay in component order
    with chunks_of(chunk):
        if count > len(ranked):
            with pytest.raises(SelectionError, match=r"NaN|are numbers"):
                select(scores, count=count)
            return
        selection = select(scores, count=count)
    assert sorted(flat(selection)) == sorted((f"neurons.{n}", i) for _, n, i in ranked[:count])
    assert all(cut.dtype == np.int64 and (np.diff(cut) > 0).all() for cut in selection.values())


@settings(deadline=None)
@given(rows=st.lists(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=5), min_size=1, max_size=3))
def test_contrast_is_general_minus_behaviour(rows):
    general = relevance(*rows)
    behaviour = relevance(*[[2 * value - 1 for value in row] for row in rows])
    order = contrast(general, behaviour, "difference")
    for n, row in enumerate(rows):
        for value, difference in zip(row, order.scores[f"neurons.{n}"].tolist(), strict=True):
            assert difference == np.float32(value) - np.float32(2 * value - 1)


def test_top_down_takes_what_matters_most_for_the_behaviour_alone():
    order = contrast(None, relevance([1.0, -2.0, 3.0]), "behaviour")
    assert [each.tolist() for each in order.scores.values()] == [[-1, 2, -3]]
    with pytest.raises(CriterionError, match="'behaviour' needs the relevance for a behaviour set"):
        contrast(relevance([1.0]), None, "behaviour")
    with pytest.raises(CriterionError, match="'difference' needs the relevance for a general set"):
        contrast(None, relevance([1.0]), "difference")


def test_contrast_of_other_components_is_refused():
    with pytest.raises(CriterionError, match="other components"):
        contrast(relevance([1.0, 2.0]), relevance([1.0]), "difference")


def test_weights_are_selected_by_flat_index():
    scores = Relevance("weight", {"weights.a": torch.tensor([[3.0, 1.0], [2.0, 9.0]])}, 1)
    components = components_by_layer(select(scores, count=2))
    assert list(components) == ["neurons", "heads", "weights"]
    assert (components["neurons"], components["heads"]) == ({}, {})
    assert components["weights"]["a"].tolist() == [1, 2]


def test_a_graded_selection_is_passed_on_as_it_is():
    graded = {3: 0.25, 1: 0.0}
    components = components_by_layer({"neurons.2": graded, "heads.0": np.array([1])})
    assert components["neurons"][2] is graded
    assert components["heads"][0].tolist() == [1]


def test_a_fraction_is_of_all_components():
    scores = relevance([5.0, 4.0, 3.0], [2.0, 1.0])
    assert component_budget(len(scores), "neuron", fraction=0.4) == 2
    assert component_budget(len(scores), "neuron", fraction=1e-9) == 1
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


LAYERS = {
    "weights.model.layers.1.mlp.down_proj.weight": 1,
    "weights.model.decoder.layers.0.fc2.weight": 0,  # out of order: scores need not come by layer
    "weights.model.layers.0.self_attn.q_proj.weight": 0,
    "weights.model.layers.12.mlp.up_proj.weight": 12,
}
MATRICES = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 6)).flatmap(
        lambda shape: st.lists(
            FEW_VALUES | st.floats(-4, 4, width=32), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]
        ).map(lambda values: np.array(values, np.float32).reshape(shape))
    ),
    min_size=1,
    max_size=4,
)


def weights(matrices):
    return Relevance("weight", {n: torch.from_numpy(m) for n, m in zip(LAYERS, matrices, strict=False)}, 1)


def largest_remainder(count, sizes):
    """By adding one at a time to the group that is furthest behind, after the whole parts."""
    total = sum(sizes)
    shares = [count * size // total for size in sizes]
    behind = sorted(range(len(sizes)), key=lambda i: (shares[i] * total - count * sizes[i], i))
    for index in behind[: count - sum(shares)]:
        shares[index] += 1
    return shares


def cut_of_groups(scores, groups, shares):
    """The places cut when each group, a list of (name, flat index), is sorted; None where one has too few numbers."""
    cut = []
    for group, share in zip(groups, shares, strict=True):
        valued = [(scores.scores[name].flatten()[i].item(), name, i) for name, i in group]
        numbers = sorted((each for each in valued if not math.isnan(each[0])), key=lambda each: each[0])
        if len(numbers) < share:
            return None
        cut += [(name, i) for _, name, i in numbers[:share]]
    return sorted(cut)


def check(scores, expected, chunk, **asked):
    with chunks_of(chunk):
        if expected is None:
            with pytest.raises(SelectionError, match=r"weights\.model"):
                select(scores, **asked)
            return
        selection = select(scores, **asked)
    assert sorted(flat(selection)) == expected
    assert list(selection) == [name for name in scores.scores if name in selection]
    assert all(cut.dtype == np.int64 and cut.size and (np.diff(cut) > 0).all() for cut in selection.values())


@settings(deadline=None, max_examples=200)
@given(matrices=MATRICES, data=st.data(), chunk=st.integers(1, 9))
def test_layers_compete_within_themselves(matrices, data, chunk):
    scores = weights(matrices)
    count = data.draw(st.integers(1, len(scores)))
    groups = {layer: [] for layer in sorted({LAYERS[name] for name in scores.scores})}
    for name, score in scores.scores.items():
        groups[LAYERS[name]] += [(name, i) for i in range(score.numel())]
    shares = largest_remainder(count, [len(group) for group in groups.values()])
    check(scores, cut_of_groups(scores, groups.values(), shares), chunk, count=count, scope="layer")


@settings(deadline=None, max_examples=200)
@given(matrices=MATRICES, data=st.data(), chunk=st.integers(1, 9))
def test_matrices_compete_within_themselves(matrices, data, chunk):
    scores = weights(matrices)
    count = data.draw(st.integers(1, len(scores)))
    groups = [[(name, i) for i in range(score.numel())] for name, score in scores.scores.items()]
    shares = largest_remainder(count, [len(group) for group in groups])
    check(scores, cut_of_groups(scores, groups, shares), chunk, count=count, scope="matrix")


@settings(deadline=None, max_examples=200)
@given(matrices=MATRICES, data=st.data(), chunk=st.integers(1, 9))
def test_rows_compete_within_themselves(matrices, data, chunk):
    scores = weights(matrices)
    count = data.draw(st.integers(1, len(scores)))
    groups = [
        [(name, row * score.shape[1] + column) for column in range(score.shape[1])]
        for name, score in scores.scores.items()
        for row in range(score.shape[0])
    ]
    shares = largest_remainder(count, [len(group) for group in groups])
    check(scores, cut_of_groups(scores, groups, shares), chunk, count=count, scope="row")


@settings(deadline=None, max_examples=200)
@given(data=st.data(), rows=st.integers(1, 4), groups=st.integers(1, 3), m=st.integers(2, 5), chunk=st.integers(1, 30))
def test_a_pattern_cuts_n_of_every_m(data, rows, groups, m, chunk):
    n = data.draw(st.integers(1, m - 1))
    size = rows * groups * m
    values = data.draw(st.lists(FEW_VALUES | st.floats(-4, 4, width=32), min_size=size, max_size=size))
    scores = weights([np.array(values, np.float32).reshape(rows, groups * m)])
    (name,) = scores.scores
    members = [[(name, start + i) for i in range(m)] for start in range(0, size, m)]
    check(scores, cut_of_groups(scores, members, [n] * len(members)), chunk, pattern=f"{n}:{m}")


def test_neurons_and_heads_compete_within_their_layer():
    scores = Relevance("head", {"heads.0": torch.tensor([5.0, 1.0]), "heads.1": torch.tensor([9.0, 8.0])}, 1)
    selection = select(scores, count=2, scope="layer")
    assert flat(selection) == [("heads.0", 1), ("heads.1", 1)]
    assert {layer: cut.tolist() for layer, cut in components_by_layer(selection)["heads"].items()} == {0: [1], 1: [1]}
    assert flat(select(relevance([5.0, 1.0], [9.0, 8.0]), count=1, scope="layer")) == [("neurons.0", 1)]


def test_what_is_left_over_goes_to_the_earlier_rows():
    scores = weights([np.zeros((3, 4), np.float32), np.zeros((2, 4), np.float32)])
    selection = select(scores, count=7, scope="row")
    assert [cut.tolist() for cut in selection.values()] == [[0, 1, 4, 5, 8], [0, 4]]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"pattern": "2-4"}, "'2-4' is not N:M.*as 2:4"),
        ({"pattern": "2:4:8"}, "is not N:M"),
        ({"pattern": " 2:4"}, "is not N:M"),
        ({"pattern": "-1:4"}, "is not N:M"),
        ({"pattern": "4:4"}, "cuts 4 of 4 weights"),
        ({"pattern": "0:4"}, "N over 0"),
        ({"pattern": "1:4"}, r"down_proj.weight has 6 columns.*divides 6"),
        ({"pattern": "1:2", "count": 3}, "leave out count"),
        ({"pattern": "1:2", "fraction": 0.5}, "leave out count"),
        ({"pattern": "1:2", "scope": "row"}, "leave out count"),
    ],
)
def test_a_pattern_that_does_not_fit_is_refused(asked, message):
    with pytest.raises(SelectionError, match=message):
        select(weights([np.zeros((2, 6), np.float32)]), **asked)


def test_a_pattern_is_two_numbers():
    assert parse_pattern("2:4") == (2, 4)


def test_matrices_share_by_size_and_their_weights_compete_across_rows():
    scores = weights([np.array([[9.0, 1.0], [8.0, 2.0]], np.float32), np.array([[7.0, 3.0, 5.0, 4.0]] * 2, np.float32)])
    selection = select(scores, fraction=0.5, scope="matrix")
    assert [cut.tolist() for cut in selection.values()] == [[1, 3], [1, 3, 5, 7]]
    # 1⅔ and 3⅓: the larger remainder gets the one that is left over.
    selection = select(scores, count=5, scope="matrix")
    assert [cut.tolist() for cut in selection.values()] == [[1, 3], [1, 3, 5]]


@pytest.mark.parametrize("asked", [{"count": 1, "scope": "row"}, {"count": 1, "scope": "matrix"}, {"pattern": "1:2"}])
def test_neurons_and_heads_have_no_rows(asked):
    with pytest.raises(SelectionError, match=r"weights of matrices, and neurons.0 has shape \(2,\)"):
        select(relevance([1.0, 2.0]), **asked)
    with pytest.raises(SelectionError, match=r"heads.0"):
        select(Relevance("head", {"heads.0": torch.zeros(2)}, 1), **asked)


def test_weights_outside_the_layers_have_no_layer():
    scores = Relevance("weight", {"weights.lm_head.weight": torch.zeros(2, 2)}, 1)
    with pytest.raises(SelectionError, match=r"lm_head\.weight is of no decoder layer"):
        select(scores, count=1, scope="layer")
    assert flat(select(scores, count=1, scope="row")) == [("weights.lm_head.weight", 0)]


@settings(deadline=None, max_examples=200)
@given(
    pairs=st.lists(
        st.lists(st.tuples(*[FEW_VALUES | st.floats(-4, 4, width=32)] * 2), min_size=1, max_size=12),
        min_size=1,
        max_size=3,
    ),
    top_behaviour=st.floats(0.01, 1),
    top_general=st.floats(0.01, 1),
    chunk=st.integers(1, 5),
)
def test_set_difference_equals_sorting_everything(pairs, top_behaviour, top_general, chunk):
    general, behaviour = (relevance(*[[pair[side] for pair in row] for row in pairs]) for side in (0, 1))
    expected, short = [], False
    for n, row in enumerate(pairs):
        tops = []
        for side, fraction in enumerate((top_general, top_behaviour)):
            ranked = sorted((i for i in range(len(row)) if not math.isnan(row[i][side])), key=lambda i: -row[i][side])
            size = max(1, round(fraction * len(row)))
            short = short or size > len(ranked)
            tops.append(set(ranked[:size]))
        expected += [(f"neurons.{n}", i) for i in sorted(tops[1] - tops[0])]
    asked = {"top_behaviour": top_behaviour, "top_general": top_general}
    with chunks_of(chunk):
        if short or not expected:
            with pytest.raises(SelectionError, match="NaN|are numbers" if short else "nothing is left to cut"):
                set_difference(general, behaviour, **asked)
            return
        selection = set_difference(general, behaviour, **asked)
    assert flat(selection) == expected
    assert all(cut.dtype == np.int64 for cut in selection.values())


@pytest.mark.parametrize("wrong", [0.0, -0.1, 1.5, math.nan])
@pytest.mark.parametrize("which", ["top_behaviour", "top_general"])
def test_a_top_fraction_out_of_range_is_refused(which, wrong):
    asked = {"top_behaviour": 0.5, "top_general": 0.5, which: wrong}
    with pytest.raises(SelectionError, match=f"{which} is {wrong}"):
        set_difference(relevance([1.0, 2.0]), relevance([2.0, 1.0]), **asked)


def test_set_difference_of_other_components_is_refused():
    with pytest.raises(CriterionError, match="other components"):
        set_difference(relevance([1.0, 2.0]), relevance([1.0]), top_behaviour=0.5, top_general=0.5)


# --- bounded rank -----------------------------------------------------------------------------------------------------


def matrices(**values):
    return Relevance("weight", {f"weights.{name}": torch.tensor(each) for name, each in values.items()}, 1)


def test_the_lines_whose_scores_under_zero_add_up_to_the_least_are_kept():
    scores = matrices(a=[[-1.0, -2.0, 9.0], [-0.5, -3.0, 1.0]], b=[[-5.0, 2.0], [0.0, 0.0]])
    rank_one = limit_rank(scores, 1)
    inf = math.inf
    assert rank_one.scores["weights.a"].tolist() == [[inf, -2, inf], [inf, -3, inf]]  # the second column: -5
    assert rank_one.scores["weights.b"].tolist() == [[-5, 2], [inf, inf]]  # row and column alike: the row
    two = limit_rank(scores, 2).scores["weights.a"].tolist()
    assert two == [[inf, -2, inf], [-0.5, -3, 1]]  # -3.5 of the second row; what is there twice counts twice
    assert scores.scores["weights.a"][0, 0] == -1
    assert (rank_one.granularity, rank_one.samples) == ("weight", 1)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 12), st.integers(0, 1000))
def test_what_is_kept_is_of_that_rank(rows, columns, rank, seed):
    score = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    kept = limit_rank(Relevance("weight", {"weights.a": score}, 1), rank).scores["weights.a"]
    taken = kept.isfinite()
    assert torch.equal(kept[taken], score[taken])
    assert np.linalg.matrix_rank((score * taken).numpy()) <= rank
    assert taken.all() or rank < rows + columns
