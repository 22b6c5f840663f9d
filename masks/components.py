"""Sets of components as a caller gives them, checked and brought to the form that a mask keeps."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from math import prod
from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt

from masks import bitmask, gates
from masks.document import FrozenDict
from masks.errors import InvalidMask

IndexLike = Sequence[int] | AbstractSet[int] | npt.NDArray[np.integer]
GradedLike = IndexLike | Mapping[int, float]
"""Components of a layer that are cut, or component → gate (`masks.gates`)."""
WeightLike = IndexLike | npt.NDArray[np.bool_]

Layers = FrozenDict[int, npt.NDArray[Any]]


def layer_sets(
    listed: Mapping[int, GradedLike], codes: Mapping[int, Any], layers: int, limit: int, kind: str
) -> tuple[Layers, Layers]:
    """Layer in [0, layers) → sorted unique indices in [0, limit), int32; and layer → their codes, uint8. Read-only.

    Empty layers are dropped, and the codes of a layer of which every component is cut. `codes` may give those of layers
    whose indices ascend strictly. `kind` names the components in messages.

    Raises:
        InvalidMask: A layer, index or code that cannot be.
    """
    layer_indices, graded = {}, {}
    for key, value in listed.items():
        try:
            layer = index(key)
        except TypeError:
            raise InvalidMask(f"{kind}: layer {key!a:.100} is not an integer") from None
        if isinstance(key, bool) or not 0 <= layer < layers:
            raise InvalidMask(f"{kind}: layer {key} is not in the model, whose layers are 0 to {layers - 1}")
        indices, gated = _layer(value, codes.get(layer), limit, f"{kind}[{layer}]")
        if indices.size:
            layer_indices[layer] = _read_only(indices.astype(np.int32, copy=False))
            if gated is not None and gated.any():
                graded[layer] = _read_only(gated)
    for layer in codes:
        if layer not in layer_indices:
            raise InvalidMask(f"gates.{kind}[{layer!a:.100}]: codes of a layer of which no component is listed")
    return _by_layer(layer_indices), _by_layer(graded)


def weight_sets(
    cut: Mapping[str, WeightLike], shapes: Mapping[str, tuple[int, int]]
) -> FrozenDict[str, npt.NDArray[Any]]:
    """Parameter → its cut elements in canonical form (`masks.bitmask`), read-only; empty sets are dropped.

    Raises:
        InvalidMask: A parameter without a shape, or elements outside it.
    """
    element_sets = {}
    for name in cut:
        if name not in shapes:
            raise InvalidMask(f"weights[{name!a:.300}]: meta.shapes has no shape for it; add (rows, columns)")
    for name in sorted(cut):
        elements = _elements(cut[name], shapes[name], f"weights[{name}]")
        if elements.size:
            element_sets[name] = _read_only(elements)
    return FrozenDict(element_sets)


def integers(value: Any, limit: int, where: str) -> npt.NDArray[Any]:
    """The integers of a sequence, set or array, in its order, as an array; all must lie in [0, limit).

    Raises:
        InvalidMask: They do not; the message names `where`.
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


def _by_layer(found: Mapping[int, npt.NDArray[Any]]) -> Layers:
    return FrozenDict({layer: found[layer] for layer in sorted(found)})


def _layer(value: Any, codes: Any, limit: int, where: str) -> tuple[npt.NDArray[Any], gates.Codes | None]:
    """Sorted unique indices of a layer, and their codes; None where none were given."""
    if isinstance(value, Mapping):
        if codes is not None:
            raise InvalidMask(f"gates.{where}: the layer is given as index → gate, so it takes no codes")
        indices = integers(list(value), limit, where)
        given = np.array([gates.code_of(gate, f"{where}: {key}") for key, gate in value.items()], np.uint8)
        kept = np.argsort(indices, kind="stable")
        kept = kept[given[kept] != gates.LEFT]
        return indices[kept], given[kept]
    indices = integers(value, limit, where)
    if codes is None:
        return _sorted_unique(indices), None
    if not (indices[1:] > indices[:-1]).all():
        raise InvalidMask(f"{where}: indices with codes must ascend strictly, so that each code has its component")
    return indices, gates.checked(codes, indices.size, f"gates.{where}") if indices.size else None


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
