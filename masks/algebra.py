"""Union, intersection and difference of sets of components, in their canonical array forms.

Of a component in both operands, the union takes the smaller gate and the intersection the larger one; the difference
leaves out a component that the other lists, regardless of the gates.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from masks import bitmask, gates

Operation = Literal["|", "&", "-"]
Array = npt.NDArray[Any]
K = TypeVar("K", int, str)

ON_INDICES: dict[str, Callable[[Array, Array], Array]] = {
    "|": np.union1d,
    "&": lambda left, right: np.intersect1d(left, right, assume_unique=True),
    "-": lambda left, right: np.setdiff1d(left, right, assume_unique=True),
}

ON_BITS: dict[str, Callable[[Array, Array], Array]] = {
    "|": np.bitwise_or,
    "&": np.bitwise_and,
    "-": lambda left, right: left & ~right,
}


def combine_indices(operation: Operation, left: Mapping[int, Array], right: Mapping[int, Array]) -> dict[int, Array]:
    """Layer → sorted unique int32 indices; layers left empty are dropped."""
    nothing = np.empty(0, np.int32)
    combined = {
        layer: ON_INDICES[operation](left.get(layer, nothing), right.get(layer, nothing))
        for layer in left.keys() | right.keys()
    }
    return {layer: indices for layer, indices in combined.items() if indices.size}


def combine_codes(
    operation: Operation,
    combined: Mapping[int, Array],
    left: tuple[Mapping[int, Array], Mapping[int, Array]],
    right: tuple[Mapping[int, Array], Mapping[int, Array]],
) -> dict[int, Array]:
    """Layer → codes (`masks.gates`) of the indices in `combined`, which `combine_indices` made of the operands'.

    An operand is its indices and its codes by layer. Only layers of which an operand has codes.
    """
    combined_codes = {}
    for layer in combined.keys() & (left[1].keys() | right[1].keys()):
        mine, its = (
            gates.codes_at(combined[layer], indices.get(layer), codes.get(layer)) for indices, codes in (left, right)
        )
        # Codes ascend with the gates, and that of a component not listed is the largest.
        combined_codes[layer] = np.maximum(mine, its) if operation == "&" else np.minimum(mine, its)
    return combined_codes


def combine_weights(
    operation: Operation, left: Mapping[str, Array], right: Mapping[str, Array], elements: Mapping[str, int]
) -> dict[str, Array]:
    """Parameter → canonical weight set (`masks.bitmask`); `elements` gives each parameter's size.

    Two sparse sets never become bitmasks on the way, and two bitmasks never become indices unless the result is
    sparse, so memory stays in proportion to the operands.
    """
    nothing = np.empty(0, np.int64)
    combined = {}
    for name in left.keys() | right.keys():
        pair = left.get(name, nothing), right.get(name, nothing)
        if any(bitmask.is_packed(cut) for cut in pair):
            packed = [cut if bitmask.is_packed(cut) else bitmask.pack(cut, elements[name]) for cut in pair]
            result = ON_BITS[operation](*packed)
        else:
            result = ON_INDICES[operation](*pair)
        result = bitmask.canonical(result, elements[name])
        if result.size:
            combined[name] = result
    return combined
