"""The model with gates in it: which layer holds which part of a mask on this rank."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edits.cover import minimum_cover
from edits.places import gated_inputs, heads_enter, neurons_enter
from edits.stream import tensors
from masks import Mask
from service.engine.gated_layers import Batch, EditedMethod, edit
from service.engine.low_rank import Piece
from service.engine.shards import Shard, shards, tail


@dataclass(frozen=True)
class GatePlan:
    """What a mask changes on this rank: enough to bring it into a slot, again and again, without reading anything."""

    gates: dict[EditedMethod, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    """Inputs to be gated, int64, and the gate of each, float32."""
    weights: dict[EditedMethod, list[Piece]] = field(default_factory=dict)
    counted: int = 0
    """Single weights that this rank takes off; those that another rank takes off as well count there."""

    @property
    def inputs(self) -> int:
        """Inputs that this rank cuts or dampens."""
        return sum(len(columns) for columns, _ in self.gates.values())


class EditedModel:
    """The linear layers of a model in which masks have a say.

    `folder` is the checkpoint's, `dtype` the model's; with `weighted`, single weights can be cut as well.
    """

    def __init__(self, folder: Path, dtype: torch.dtype, batch: Batch, *, weighted: bool) -> None:
        self.weighted = weighted
        self.outputs: dict[EditedMethod, int] = {}
        """Output features of each layer on this rank."""
        self._folder = folder
        self._dtype = dtype
        self._batch = batch
        self._gates: dict[str, tuple[EditedMethod, Shard]] = {}
        self._matrices: dict[str, tuple[EditedMethod, Shard]] = {}
        """Module, from its layer on → the method of the layer that holds it, and which part."""

    def edit(self, model: nn.Module) -> None:
        """Put gates, and what takes single weights off, into `model`."""
        packed = getattr(model, "packed_modules_mapping", {})
        for name, layer in list(model.named_modules()):
            gated = neurons_enter(name) is not None or heads_enter(name) is not None
            held = shards(name, layer, packed) if hasattr(layer, "quant_method") else []
            if not held or not (gated or self.weighted):
                continue
            inputs = len(held[0].columns)
            method = edit(layer, self._batch, self._dtype, inputs, gated=gated, weighted=self.weighted)
            self.outputs[method] = held[-1].offset + len(held[-1].rows)
            for shard in held:
                self._matrices[shard.module] = method, shard
            if gated:
                self._gates[tail(name)] = method, held[0]

    @property
    def gated_methods(self) -> Collection[EditedMethod]:
        """The methods of the layers that neurons or heads enter."""
        return [method for method, _ in self._gates.values()]

    def plan(self, mask: Mask) -> GatePlan:
        """What `mask` changes here. Reads the elements of the checkpoint that it cuts singly."""
        weights, counted = self._weights(mask) if mask.weights else ({}, 0)
        return GatePlan(self._gated(mask), weights, counted)

    def _gated(self, mask: Mask) -> dict[EditedMethod, tuple[torch.Tensor, torch.Tensor]]:
        gates = {}
        for module, (method, shard) in self._gates.items():
            if (inputs := gated_inputs(mask, module)) is None:
                continue
            here = (inputs.columns >= shard.columns.start) & (inputs.columns < shard.columns.stop)
            if here.any():
                local = inputs.columns[here] - shard.columns.start
                gates[method] = torch.from_numpy(local), torch.from_numpy(inputs.gates[here])
        return gates

    def _weights(self, mask: Mask) -> tuple[dict[EditedMethod, list[Piece]], int]:
        pieces: dict[EditedMethod, list[Piece]] = {}
        counted = 0
        for name, matrix in tensors(self._folder):
            held = self._matrices.get(tail(name.removesuffix(".weight")))
            if name not in mask.weights or held is None:
                continue  # a cut matrix that is on no rank shows in the counts, added up
            method, shard = held
            indices = mask.weight_indices(name)
            rows, columns = np.divmod(indices, mask.meta.shapes[name][1])
            here = (rows >= shard.rows.start) & (rows < shard.rows.stop)
            here &= (columns >= shard.columns.start) & (columns < shard.columns.stop)
            if not here.any():
                continue
            rows, columns = rows[here] - shard.rows.start, columns[here] - shard.columns.start
            width = len(shard.columns)
            cover = minimum_cover(rows * width + columns, (len(shard.rows), width))
            values = matrix.reshape(-1)[torch.from_numpy(indices[here])].to(self._dtype)
            pieces.setdefault(method, []).append(Piece(rows, columns, values, cover, width, shard.offset))
            counted += 0 if shard.copy else len(rows)
        return pieces, counted
