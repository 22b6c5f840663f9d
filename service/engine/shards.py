"""Where a checkpoint's matrices lie in vLLM's layers, which fuse some of them and share them out among workers.

Source: `ColumnParallelLinear`, `MergedColumnParallelLinear`, `QKVParallelLinear` and `RowParallelLinear` in
vllm/model_executor/layers/linear.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vllm.model_executor.layers.linear import (
    ColumnParallelLinear,
    LinearBase,
    MergedColumnParallelLinear,
    QKVParallelLinear,
    ReplicatedLinear,
    RowParallelLinear,
)


@dataclass(frozen=True)
class Shard:
    """The part of one matrix of the checkpoint, shape (outputs, inputs), that a layer holds on this rank."""

    module: str
    """The matrix's module, from its layer on: `layers.3.self_attn.q_proj`. What comes before differs between vLLM
    and checkpoints."""
    rows: range
    columns: range
    offset: int
    """The place of its first row among the outputs of the layer."""
    copy: bool = False
    """Another rank holds the same part, and counts it."""


Held = tuple[range, range, bool]
"""Rows and columns of a matrix that this rank holds, and whether another rank counts them."""


def tail(module: str) -> str:
    """The name of a module from its layer on, or empty where it is in no layer."""
    before, separator, after = module.partition("layers.")
    return separator + after if not before or before.endswith(".") else ""


def shards(name: str, layer: LinearBase, packed: Mapping[str, Sequence[str]]) -> list[Shard]:
    """The parts of the checkpoint's matrices that a layer holds; none where it is no projection of a decoder layer.

    Args:
        name: of the layer in vLLM's model.
        layer: vLLM's.
        packed: the model's `packed_modules_mapping`: a fused layer's name → those of the matrices in it.
    """
    parent, _, last = tail(name).rpartition(".")
    if not parent:
        return []
    modules = [f"{parent}.{module}" for module in packed.get(last, [last])]
    held = _held(layer)
    if len(modules) != len(held):
        return []
    parts, offset = [], 0
    for module, (rows, columns, copy) in zip(modules, held, strict=True):
        parts.append(Shard(module, rows, columns, offset, copy))
        offset += len(rows)
    return parts


def _held(layer: LinearBase) -> list[Held]:
    """The parts of a layer's matrices on this rank, in their order; none of an unknown kind of layer."""
    rank, inputs = layer.tp_rank, range(layer.input_size)
    if isinstance(layer, RowParallelLinear):
        return [(range(layer.output_size), _part(rank, layer.input_size_per_partition), False)]
    if isinstance(layer, QKVParallelLinear):
        return _held_of_attention(layer, inputs)
    if isinstance(layer, MergedColumnParallelLinear):
        return [(_part(rank, outputs // layer.tp_size), inputs, False) for outputs in layer.output_sizes]
    if isinstance(layer, ColumnParallelLinear):
        return [(_part(rank, layer.output_size_per_partition), inputs, False)]
    if isinstance(layer, ReplicatedLinear):
        return [(range(layer.output_size), inputs, rank > 0)]
    return []


def _held_of_attention(layer: QKVParallelLinear, inputs: range) -> list[Held]:
    """Queries, keys and values: where there are more ranks than key-value heads, several ranks hold the same head."""
    group, copy = divmod(layer.tp_rank, layer.num_kv_head_replicas)
    q, k, v = (
        layer.num_heads * layer.head_size,
        layer.num_kv_heads * layer.head_size,
        layer.num_kv_heads * layer.v_head_size,
    )
    return [
        (_part(layer.tp_rank, q), inputs, False),
        (_part(group, k), inputs, copy > 0),
        (_part(group, v), inputs, copy > 0),
    ]


def _part(rank: int, size: int) -> range:
    """The `rank`th of equal parts."""
    return range(rank * size, (rank + 1) * size)
