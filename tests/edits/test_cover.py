"""The cover is small: as small as trying every set of rows and columns finds, and as a matching proves."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import structural_rank

from edits.cover import Cover, minimum_cover, ranks
from tests.masks import samples

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5))


@st.composite
def removed(draw):
    shape = draw(SHAPES)
    cut = draw(st.lists(st.booleans(), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    return np.flatnonzero(cut), shape


def uncovered(cover, indices, shape):
    rows, columns = np.divmod(indices, shape[1])
    return ~(np.isin(rows, cover.rows) | np.isin(columns, cover.columns))


def smallest(indices, shape):
    """By trying every set of rows; the columns that they leave must all be taken."""
    rows, columns = np.divmod(indices, shape[1])
    sizes = []
    for taken in product((False, True), repeat=shape[0]):
        left = set(columns[~np.array(taken)[rows]].tolist())
        sizes.append(sum(taken) + len(left))
    return min(sizes)


def random_indices(shape, count, seed=0):
    drawn = np.random.default_rng(seed).choice(shape[0] * shape[1], count, replace=False)
    return np.sort(drawn)


@samples.quick
@given(removed())
def test_no_set_of_rows_and_columns_is_smaller(case):
    indices, shape = case
    cover = minimum_cover(indices, shape)
    assert not uncovered(cover, indices, shape).any()
    assert cover.rank == smallest(indices, shape)


@pytest.mark.parametrize(("shape", "count"), [((50, 80), 30), ((80, 50), 200), ((60, 60), 90), ((300, 300), 330)])
def test_it_is_as_large_as_a_maximum_matching(shape, count):
    indices = random_indices(shape, count)
    cover = minimum_cover(indices, shape)
    graph = csr_array((np.ones(count), np.divmod(indices, shape[1])), shape=shape)
    assert not uncovered(cover, indices, shape).any()
    assert cover.rank == structural_rank(graph)


def test_rows_and_columns_are_sorted_int64():
    cover = minimum_cover(random_indices((40, 40), 60), (40, 40))
    for part in (cover.rows, cover.columns):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()


def test_one_column_is_one_rank_however_long():
    cover = minimum_cover(np.arange(1000) * 7 + 3, (1000, 7))
    assert (cover.rows.tolist(), cover.columns.tolist()) == ([], [3])


def test_a_cross_is_a_row_and_a_column():
    row, column = 4 * 100 + np.arange(100), np.arange(100) * 100 + 9
    cover = minimum_cover(np.union1d(row, column), (100, 100))
    assert (cover.rows.tolist(), cover.columns.tolist()) == ([4], [9])


def test_nothing_removed_is_rank_nought():
    assert minimum_cover(np.empty(0, np.int64), (5, 5)).rank == 0
    assert Cover(np.empty(0, np.int64), np.empty(0, np.int64)).rank == 0


def test_everything_removed_is_the_shorter_side():
    assert minimum_cover(np.arange(600), (20, 30)).rank == 20
    assert minimum_cover(np.arange(600), (30, 20)).rank == 20


def test_a_long_alternating_path_is_followed_to_its_end():
    steps = np.arange(3000)
    staircase = np.union1d(steps * 3001 + steps, steps * 3001 + steps + 1)
    assert minimum_cover(staircase, (3000, 3001)).rank == 3000


def test_ranks_speak_of_single_weights_only():
    assert ranks(samples.mask({0: [1, 2]}, {1: [0]})) == {}
    assert ranks(samples.mask({0: [1, 2]}, {}, {samples.UP: [0, 1, 2, 13]})) == {samples.UP: 2}
