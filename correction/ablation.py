"""Ablation: a mask put on a Hugging Face model for a while. What the serving engine is tested against."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn

import masks
from correction import distributed
from correction.models import LoadedModel


@contextmanager
def ablated(loaded: LoadedModel, mask: masks.Mask, *, allow_other_base: bool = False) -> Iterator[None]:
    """Within the block the model runs with the mask's components cut or dampened; then it is exactly as it was.

    Of a neuron or head what enters `down_proj` or `o_proj` is multiplied by its gate (0 where cut), a weight is cut by
    writing 0 over it.

    Raises:
        FingerprintMismatch: Of `masks`, where the mask is not for this model.
        GeometryMismatch: Of `masks`, where the mask is not for this model.
        UnknownParameter: Of `masks`, where the mask is not for this model.
    """
    masks.check(mask, loaded.base, masks.parameters(loaded.path), allow_other_base=allow_other_base)
    head_dim = loaded.base.geometry.head_dim
    with ExitStack() as stack:
        for block in loaded.blocks:
            for kind, module, width in (("neurons", block.down_proj, 1), ("heads", block.o_proj, head_dim)):
                listed = getattr(mask, kind).get(block.index)
                if listed is not None:
                    gates = mask.gate_values(kind, block.index)
                    stack.enter_context(scaled_input(module, _row(module, listed, gates, width)))
        parameters = dict(loaded.model.named_parameters())
        for name in mask.weights:
            stack.enter_context(zeroed_weights(parameters[name], mask.weight_indices(name)))
        yield


@contextmanager
def modified_input(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within the block a module reads what `change` makes of what enters it: (…, in) → (…, in)."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (change(inputs[0]), *inputs[1:])

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def scaled_input(module: nn.Linear, row: Tensor) -> AbstractContextManager[None]:
    """Within the block what enters a module is multiplied by a row: (in,)."""
    return modified_input(module, lambda x: x * row)


def _row(module: nn.Linear, listed: np.ndarray, gates: np.ndarray, width: int) -> Tensor:
    row = torch.ones(module.in_features // width, dtype=module.weight.dtype, device=module.weight.device)
    row[torch.from_numpy(listed.astype(np.int64))] = torch.from_numpy(gates).to(row)
    return row.repeat_interleave(width)


@contextmanager
def zeroed_weights(parameter: nn.Parameter, indices: np.ndarray) -> Iterator[None]:
    """Within the block the weights of these flat indices are 0; then they are what they were, bit for bit."""
    values, start = distributed.local_shard(parameter)
    here = indices[(indices >= start) & (indices < start + len(values))] - start
    where = torch.from_numpy(here.astype(np.int64)).to(values.device)
    before = values[where].clone()
    values[where] = 0
    try:
        yield
    finally:
        values[where] = before
