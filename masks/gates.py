"""Gates: the factor on a listed component. 0 cuts it, 1/4 and 1/2 dampen it; a component that is not listed has 1.

The factors are powers of two, so that a product with one is exact in float32 and bfloat16 (short of the smallest
numbers). Memory and file hold a code for each listed component of a layer, uint8: its place in `GATES`. A layer of
which every component is cut has no codes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from masks.errors import InvalidMask

Codes = npt.NDArray[np.uint8]

GATES = np.array([0.0, 0.25, 0.5], np.float32)
"""Code → gate, ascending: the smaller code is the smaller gate."""
GATES.setflags(write=False)

LEFT = len(GATES)
"""In place of a code: the component is not listed, its gate is 1."""

_CODE_OF: dict[Any, int] = {float(gate): code for code, gate in enumerate(GATES)} | {1.0: LEFT}


def code_of(gate: Any, where: str) -> int:
    """The code of a gate, or `LEFT` for the gate 1. Raises `InvalidMask`, with `where` in its message."""
    known = isinstance(gate, int | float | np.integer | np.floating) and not isinstance(gate, bool)
    code = _CODE_OF.get(gate) if known else None
    if code is None:
        raise InvalidMask(f"{where}: gate {gate!a:.100} is not one of 0 (cut), 0.25, 0.5 and 1 (left as it is)")
    return code


def checked(codes: Any, size: int, where: str) -> Codes:
    """Codes of `size` components, as uint8. Raises `InvalidMask`."""
    array = np.asarray(codes)
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.size != size:
        raise InvalidMask(
            f"{where}: must be {size} integers, a code for each component that is listed, not {array.dtype} of shape "
            f"{list(array.shape)}"
        )
    for extreme in (int(array.min()), int(array.max())):
        if not 0 <= extreme < len(GATES):
            raise InvalidMask(f"{where}: code {extreme} is of no gate; the codes are 0 (gate 0), 1 (1/4) and 2 (1/2)")
    return array.astype(np.uint8, copy=False)


def codes_at(
    wanted: npt.NDArray[np.int32], indices: npt.NDArray[np.int32] | None, codes: Codes | None
) -> npt.NDArray[np.uint8]:
    """The codes of the components `wanted` in a layer that lists `indices`, sorted; `LEFT` for those it does not list.

    `codes` None means that all of them are cut.
    """
    wanted_codes = np.full(wanted.size, LEFT, np.uint8)
    if indices is not None and indices.size:
        place = np.searchsorted(indices, wanted).clip(max=indices.size - 1)
        listed = indices[place] == wanted
        wanted_codes[listed] = 0 if codes is None else codes[place[listed]]
    return wanted_codes


def values(size: int, codes: Codes | None) -> npt.NDArray[np.float32]:
    """The gates of a layer's `size` listed components, float32."""
    return np.zeros(size, np.float32) if codes is None else GATES[codes]


def dampened(gates: Mapping[str, Mapping[int, Codes]]) -> int:
    """How many components have a gate other than 0."""
    return sum(int(np.count_nonzero(codes)) for layers in gates.values() for codes in layers.values())
