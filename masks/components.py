"""Sets of components as a caller gives them, checked and brought to the form that a mask keeps."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from math import prod
from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt

from masks import bitmask
from masks.document import FrozenDict
from masks.errors import InvalidMask

IndexLike = Sequence[int] | AbstractSet[int] | npt.NDArray[np.integer]
WeightLike = IndexLike | npt.NDArray[np.bool_]


def layer_sets(
    cut: Mapping[int, IndexLike], layers: int, limit: int, kind: str
) -> FrozenDict[int, npt.NDArray[np.int32]]:
    """Layer in [0, layers) → sorted unique indices in [0, limit), int32 and read-only; empty layers are dropped.

    `kind` names the components in messages. Raises `InvalidMask`.
    """
    found = {}
    for key, value in cut.items():
        try:
            layer = index(key)
        except TypeError:
            raise InvalidMask(f"{kind}: layer {key!a:.100} is not an integer") from None
        if isinstance(key, bool) or not 0 <= layer < layers:
            raise InvalidMask(f"{kind}: layer {key} is not in the model, whose layers are 0 to {layers - 1}")
        indices = _sorted_unique(integers(value, limit, f"{kind}[{layer}]"))
        if indices.size:
            found[layer] = _read_only(indices.astype(np.int32, copy=False))
    return FrozenDict({layer: found[layer] for layer in sorted(found)})


def weight_sets(
    cut: Mapping[str, WeightLike], shapes: Mapping[str, tuple[int, int]]
) -> FrozenDict[str, npt.NDArray[Any]]:
    """Parameter → its cut elements in canonical form (`masks.bitmask`), read-only; empty sets are dropped.

    Raises `InvalidMask`.
    """
    found = {}
    for name in cut:
        if name not in shapes:
            raise InvalidMask(f"weights[{name!a:.300}]: meta.shapes has no shape for it; add (rows, columns)")
    for name in sorted(cut):
        elements = _elements(cut[name], shapes[name], f"weights[{name}]")
        if elements.size:
            found[name] = _read_only(elements)
    return FrozenDict(found)


def integers(value: Any, limit: int, where: str) -> npt.NDArray[Any]:
    """The integers of a sequence, set or array, in its order, as an array; all must lie in [0, limit).

    Raises `InvalidMask`, with `where` in its message.
    """
    array = np.asarray(list(value) if isinstance(value, AbstractSet) else value)
    if array.shape == (0,):
        return np.empty(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InvalidMask(f"{where}: must be a flat list of integers, not {array.dtype} of shape {list(array.shape)}")
    for extreme in (int(array.min()), int(array.max())):
        if not 0 <= extreme < limit:
            raise InvalidMask(f"{where}: index {extreme} is out of range; the model has 0 to {limit - 1}")
    return array


def _elements(cut: Any, shape: tuple[int, int], where: str) -> npt.NDArray[Any]:
    elements = prod(shape)
    if isinstance(cut, np.ndarray) and cut.dtype == np.bool_:
        if cut.shape != shape:
            raise InvalidMask(f"{where}: the boolean array has shape {cut.shape}, the parameter {shape}")
        return bitmask.from_flags(cut)
    if isinstance(cut, np.ndarray) and cut.dtype == np.uint8:
        bitmask.check_packed(cut, elements, where)
        return bitmask.canonical(cut, elements)
    return bitmask.canonical(_sorted_unique(integers(cut, elements, where)), elements)


def _sorted_unique(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array if (array[1:] > array[:-1]).all() else np.unique(array)


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # Bytes cannot be written to, so neither can a view of them: even `setflags(write=True)` fails.
    if isinstance(array.base, bytes):
        return array
    return np.frombuffer(array.tobytes(), array.dtype)
