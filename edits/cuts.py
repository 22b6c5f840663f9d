"""Cuts a mask out of checkpoint tensors as they stream by, in the checkpoint's own names and coordinates."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import torch

from edits.errors import MaskNotAppliedError
from edits.places import heads_enter, neurons_enter
from masks import Mask


def cut(weights: Iterable[tuple[str, torch.Tensor]], mask: Mask) -> Generator[tuple[str, torch.Tensor], None, None]:
    """Pass checkpoint tensors on, the components of ``mask`` set to zero in copies.

    ``weights`` yields (name, tensor) in checkpoint coordinates: a matrix has shape (outputs, inputs). Raises
    ``MaskNotAppliedError`` after the last tensor if a component was not met, or at once if a shape differs.
    """
    geometry = mask.meta.base.geometry
    waiting: set[tuple[str, int | str]] = {("neurons", layer) for layer in mask.neurons}
    waiting |= {("heads", layer) for layer in mask.heads} | {("weights", name) for name in mask.weights}
    for name, tensor in weights:
        columns: list[int] = []
        module = name.removesuffix(".weight") if name.endswith(".weight") else ""
        if (layer := neurons_enter(module)) in mask.neurons:
            _check_shape(name, tensor.shape[-1], geometry.neurons, "input features")
            columns += mask.neurons[layer].tolist()
            waiting.discard(("neurons", layer))
        if (layer := heads_enter(module)) in mask.heads:
            _check_shape(name, tensor.shape[-1], geometry.heads * geometry.head_dim, "input features")
            wide = geometry.head_dim
            columns += [head * wide + i for head in mask.heads[layer].tolist() for i in range(wide)]
            waiting.discard(("heads", layer))
        if columns:
            tensor = tensor.clone()
            tensor[:, columns] = 0
        if name in mask.weights:
            _check_shape(name, tuple(tensor.shape), mask.meta.shapes[name], "shape")
            tensor = tensor.clone()
            tensor.view(-1)[torch.from_numpy(mask.weight_indices(name).copy())] = 0
            waiting.discard(("weights", name))
        yield name, tensor
    if waiting:
        missing = ", ".join(f"{kind}.{where}" for kind, where in sorted(waiting, key=str)[:5])
        raise MaskNotAppliedError(
            f"mask {mask.meta.name!r} ({mask.digest[:12]}) cuts {missing}, which the checkpoint does not hold as plain "
            "matrices (is it packed, or another model?); no model is left half corrected"
        )


def _check_shape(name: str, found: object, expected: object, what: str) -> None:
    if found != expected:
        raise MaskNotAppliedError(f"{name} has {what} {found}, but the mask was made for {expected}")
