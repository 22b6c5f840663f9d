"""Ablation: a mask put on a Hugging Face model for a while. What the serving engine is tested against."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import masks
from correction import distributed
from correction.models import LoadedModel


@contextmanager
def ablated(loaded: LoadedModel, mask: masks.Mask, *, allow_other_base: bool = False) -> Iterator[None]:
    """Within the block the model runs with the mask's components cut; then it is exactly as it was.

    A neuron or head is cut by multiplying what enters `down_proj` or `o_proj` by 0 there and by 1 elsewhere, a weight
    by writing 0 over it.

    Raises:
        FingerprintMismatch, GeometryMismatch, UnknownParameter: of `masks`, where the mask is not for this model.
    """
    masks.check(mask, loaded.base, masks.parameters(loaded.path), allow_other_base=allow_other_base)
    head_dim = loaded.base.geometry.head_dim
    with ExitStack() as stack:
        for block in loaded.blocks:
            for module, cut, width in (
                (block.down_proj, mask.neurons.get(block.index), 1),
                (block.o_proj, mask.heads.get(block.index), head_dim),
            ):
                if cut is not None:
                    handle = module.register_forward_pre_hook(_gate(module, cut, width))
                    stack.callback(handle.remove)
        parameters = dict(loaded.model.named_parameters())
        for name in mask.weights:
            stack.enter_context(_zeroed(parameters[name], mask.weight_indices(name)))
        yield


def _gate(module: nn.Linear, cut: np.ndarray, width: int) -> Any:
    keep = torch.ones(module.in_features // width, dtype=module.weight.dtype, device=module.weight.device)
    keep[torch.from_numpy(cut.astype(np.int64))] = 0
    keep = keep.repeat_interleave(width)

    def gate(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0] * keep, *inputs[1:])

    return gate


@contextmanager
def _zeroed(parameter: nn.Parameter, indices: np.ndarray) -> Iterator[None]:
    values, start = distributed.own(parameter)
    here = indices[(indices >= start) & (indices < start + len(values))] - start
    where = torch.from_numpy(here.astype(np.int64)).to(values.device)
    before = values[where].clone()
    values[where] = 0
    try:
        yield
    finally:
        values[where] = before
