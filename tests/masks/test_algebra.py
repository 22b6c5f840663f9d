from typing import Any

import numpy as np
import pytest
from hypothesis import given

from masks import bitmask
from masks.algebra import Operation, combine_indices, combine_weights
from tests.masks.samples import SHAPES, quick, weight_sets

ELEMENTS = {name: rows * columns for name, (rows, columns) in SHAPES.items()}
ON_SETS: dict[Operation, Any] = {"|": set.union, "&": set.intersection, "-": set.difference}


@pytest.mark.parametrize("operation", ON_SETS)
@given(left=weight_sets, right=weight_sets)
@quick
def test_weights_combine_as_sets_into_canonical_form(
    operation: Operation, left: dict[str, set[int]], right: dict[str, set[int]]
) -> None:
    forms = [
        {name: bitmask.canonical(np.array(sorted(cut), np.int64), ELEMENTS[name]) for name, cut in side.items() if cut}
        for side in (left, right)
    ]
    combined = combine_weights(operation, forms[0], forms[1], ELEMENTS)
    expected = {name: ON_SETS[operation](left.get(name, set()), right.get(name, set())) for name in ELEMENTS}
    assert combined.keys() == {name for name, cut in expected.items() if cut}
    for name, cut in combined.items():
        assert bitmask.is_packed(cut) is bitmask.is_dense(len(expected[name]), ELEMENTS[name])
        assert (bitmask.unpack(cut) if bitmask.is_packed(cut) else cut).tolist() == sorted(expected[name])


def test_a_layer_of_one_side_only_counts_as_empty_on_the_other() -> None:
    left, right = {0: np.array([1, 2], np.int32)}, {1: np.array([3], np.int32)}
    assert {layer: cut.tolist() for layer, cut in combine_indices("|", left, right).items()} == {0: [1, 2], 1: [3]}
    assert combine_indices("&", left, right) == {}
    assert {layer: cut.tolist() for layer, cut in combine_indices("-", left, right).items()} == {0: [1, 2]}
