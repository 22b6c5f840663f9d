"""Where a checkpoint keeps the matrices whose inputs are neurons and heads, in any of `masks.families`."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from masks import Mask
from masks.families import values

_NEURONS = re.compile(rf"(?:^|\.)layers\.(\d+)\.(?:{'|'.join(map(re.escape, values('down_proj')))})$")
_HEADS = re.compile(rf"(?:^|\.)layers\.(\d+)\.(?:{'|'.join(map(re.escape, values('o_proj')))})$")
_PROJECTION = re.compile(rf"(?:^|\.)layers\.\d+\.(?:{'|'.join(values('projections'))})\.weight$")


def neurons_enter(module: str) -> int | None:
    """The layer whose neurons are the inputs of the matrix of `module` (a dotted name without `.weight`)."""
    return int(match[1]) if (match := _NEURONS.search(module)) else None


def heads_enter(module: str) -> int | None:
    """The layer whose heads are the inputs of the matrix of `module`, `head_dim` of them a head."""
    return int(match[1]) if (match := _HEADS.search(module)) else None


def is_projection(parameter: str) -> bool:
    """Whether `parameter` is the matrix of a linear module inside a layer."""
    return _PROJECTION.search(parameter) is not None


def module_of(parameter: str) -> str:
    """The module in transformers' causal model; some OPT checkpoints are of the model without its head."""
    name = parameter.removesuffix(".weight")
    return name if name.startswith(("model.", "lm_head")) else f"model.{name}"


@dataclass(frozen=True)
class GatedInputs:
    """The inputs of one matrix that a mask cuts or dampens."""

    component: tuple[str, int]
    """`neurons` or `heads`, and their layer."""
    size: int
    """How many inputs the matrix has in all."""
    columns: np.ndarray
    """Those that are gated, int64, sorted."""
    gates: np.ndarray
    """Their factors, float32: 0, 1/4 or 1/2."""


def gated_inputs(mask: Mask, module: str) -> GatedInputs | None:
    """What `mask` gates of the inputs of `module`'s matrix; None where that is nothing."""
    geometry = mask.meta.base.geometry
    if (layer := neurons_enter(module)) is not None and layer in mask.neurons:
        gates = mask.gate_values("neurons", layer)
        return GatedInputs(("neurons", layer), geometry.neurons, mask.neurons[layer].astype(np.int64), gates)
    if (layer := heads_enter(module)) is not None and layer in mask.heads:
        wide = geometry.head_dim
        columns = (mask.heads[layer].astype(np.int64)[:, None] * wide + np.arange(wide)).reshape(-1)
        gates = mask.gate_values("heads", layer).repeat(wide)
        return GatedInputs(("heads", layer), geometry.heads * wide, columns, gates)
    return None


def cuts_packed(mask: Mask, parameters: Collection[str]) -> bool:
    """Whether neurons or heads of `mask` enter a matrix that a checkpoint of these `parameters` holds packed."""
    plain = [name.removesuffix(".weight") for name in parameters if name.endswith(".weight")]
    into = {("neurons", neurons_enter(name)) for name in plain} | {("heads", heads_enter(name)) for name in plain}
    cut = {("neurons", layer) for layer in mask.neurons} | {("heads", layer) for layer in mask.heads}
    return not cut <= into
