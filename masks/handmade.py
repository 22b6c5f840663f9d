"""A mask made by hand, from the folder of its model."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from masks import checkpoint
from masks.checkpoint import ParameterInfo
from masks.components import GradedLike, IndexLike, WeightLike, integers
from masks.errors import InvalidMask
from masks.fit import unknown_parameter
from masks.folder import PathLike
from masks.mask import Mask
from masks.meta import Meta, check_name, now

RowsAndColumns = tuple[IndexLike, IndexLike]

# A zero written over one element of these is a zero weight; in packed or integer formats it is something else.
CUTTABLE = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


def for_model(
    model_dir: PathLike,
    name: str,
    neurons: Mapping[int, GradedLike] | None = None,
    heads: Mapping[int, GradedLike] | None = None,
    weights: Mapping[str, WeightLike | RowsAndColumns] | None = None,
    made: Mapping[str, Any] | None = None,
    measured: Mapping[str, Any] | None = None,
    id: str | None = None,
    created_at: str | None = None,
) -> Mask:
    """A mask for the model in `model_dir` (config.json and checkpoint), of components named by hand.

    Args:
        model_dir: Folder of the model.
        name: Of the mask.
        neurons: Layer → indices, which are cut, or layer → {index: gate}, with gates 0, 0.25 and 0.5.
        heads: The same of heads.
        weights: Parameter name → flat row-major indices, or a tuple (rows, columns) of two index arrays of one length,
            or a boolean array of the parameter's shape (True is cut).
        made: See `masks.Meta`; by default `{"criterion": "hand"}`.
        measured: See `masks.Meta`.
        id: What the model is called; see `masks.describe`.
        created_at: By default the present time.

    Raises:
        CheckpointError: The model's files cannot be read.
        UnknownParameter: The model has no parameter of that name; the message lists near ones.
        InvalidMask: Components that the model does not have, or a name that cannot be.
    """
    check_name(name)
    flat: dict[str, WeightLike] = {}
    shapes: dict[str, tuple[int, int]] = {}
    known = checkpoint.parameters(model_dir) if weights else {}
    for parameter, cut in (weights or {}).items():
        if parameter not in known:
            raise unknown_parameter(parameter, known, f"mask {name}")
        shapes[parameter] = _matrix(parameter, known[parameter])
        flat[parameter] = _flat(cut, shapes[parameter], f"weights[{parameter}]")
    meta = Meta(
        name=name,
        base=checkpoint.describe(model_dir, id),
        shapes=shapes,
        created_at=now() if created_at is None else created_at,
        made={"criterion": "hand"} if made is None else dict(made),
        measured={} if measured is None else dict(measured),
    )
    return Mask(neurons or {}, heads or {}, flat, meta)


def _matrix(name: str, info: ParameterInfo) -> tuple[int, int]:
    if len(info.shape) != 2:
        raise InvalidMask(f"weights[{name}]: its shape is {info.shape}; only matrices can be cut by weight")
    if info.dtype not in CUTTABLE:
        raise InvalidMask(
            f"weights[{name}]: its dtype is {info.dtype}; weights are cut in {', '.join(CUTTABLE)}. Make the mask from "
            "the model's unquantised checkpoint"
        )
    return info.shape[0], info.shape[1]


def _flat(cut: WeightLike | RowsAndColumns, shape: tuple[int, int], where: str) -> WeightLike:
    # A tuple of two integers is a sequence of flat indices; of two sequences, rows and columns.
    if not isinstance(cut, tuple) or len(cut) != 2 or isinstance(cut[0], int | np.integer):
        return cut
    rows = integers(cut[0], shape[0], f"{where}: rows").astype(np.int64)
    columns = integers(cut[1], shape[1], f"{where}: columns").astype(np.int64)
    if rows.size != columns.size:
        raise InvalidMask(f"{where}: {rows.size} rows but {columns.size} columns; give one of each for every weight")
    return rows * shape[1] + columns
