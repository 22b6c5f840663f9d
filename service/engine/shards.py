"""Where a checkpoint's matrices lie in vLLM's layers, which fuse some of them and share them out among workers.

Source: ``ColumnParallelLinear``, ``MergedColumnParallelLinear``, ``QKVParallelLinear`` and ``RowParallelLinear`` in
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
    """The matrix's module, from its layer on: ``layers.3.self_attn.q_proj``. What comes before differs between vLLM
    and checkpoints."""
    rows: range
    columns: range
    offset: int
    """The place of its first row among the outputs of the layer."""
    copy: bool = False
    """Another rank holds the same part, and counts it."""


def tail(module: str) -> str:
    """The name of a module from its layer on, or empty where it is in no layer."""
    before, found, after = module.partition("layers.")
    return found + after if not before or before.endswith(".") else ""


def shards(name: str, layer: LinearBase, packed: Mapping[str, Sequence[str]]) -> list[Shard]:
    """The parts that ``layer``, called ``name`` in vLLM's model, holds; none where it is no projection of a layer.

    ``packed`` is the model's ``packed_modules_mapping``: a fused layer's name → those of the matrices in it.
    """
    parent, _, last = tail(name).rpartition(".")
    if not parent:
        return []
    modules = [f"{parent}.{module}" for module in packed.get(last, [last])]
    rank, size, inputs = layer.tp_rank, layer.tp_size, range(layer.input_size)
    if isinstance(layer, RowParallelLinear):
        wide = layer.input_size_per_partition
        held = [(range(layer.output_size), range(rank * wide, (rank + 1) * wide), False)]
    elif isinstance(layer, QKVParallelLinear):
        q, k, v = (
            layer.num_heads * layer.head_size,
            layer.num_kv_heads * layer.head_size,
            layer.num_kv_heads * layer.v_head_size,
        )
        group, copy = divmod(rank, layer.num_kv_head_replicas)
        held = [(range(rank * q, (rank + 1) * q), inputs, False)]
        held += [(range(group * wide, (group + 1) * wide), inputs, copy > 0) for wide in (k, v)]
    elif isinstance(layer, MergedColumnParallelLinear):
        parts = [outputs // size for outputs in layer.output_sizes]
        held = [(range(rank * part, (rank + 1) * part), inputs, False) for part in parts]
    elif isinstance(layer, ColumnParallelLinear):
        part = layer.output_size_per_partition
        held = [(range(rank * part, (rank + 1) * part), inputs, False)]
    elif isinstance(layer, ReplicatedLinear):
        held = [(range(layer.output_size), inputs, rank > 0)]
    else:
        return []
    if len(modules) != len(held):
        return []
    found, offset = [], 0
    for module, (rows, columns, is_copy) in zip(modules, held, strict=True):
        found.append(Shard(module, rows, columns, offset, is_copy))
        offset += len(rows)
    return found
