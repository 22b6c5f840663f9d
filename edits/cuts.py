"""Cuts a mask out of checkpoint tensors as they stream by, in the checkpoint's own names and coordinates."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import torch

from edits.errors import MaskNotAppliedError, NotRepresentableError
from edits.places import GatedInputs, gated_inputs
from masks import Mask


def cut_tensors(
    weights: Iterable[tuple[str, torch.Tensor]], mask: Mask
) -> Generator[tuple[str, torch.Tensor], None, None]:
    """Pass checkpoint tensors on, the components of `mask` multiplied by their gates (0 where cut) in copies.

    `weights` yields (name, tensor) in checkpoint coordinates: a matrix has shape (outputs, inputs). The products are
    exact.

    Raises:
        MaskNotAppliedError: A component was not met, after the last tensor; or a shape differs, at once.
        NotRepresentableError: A tensor's dtype cannot hold a product.
    """
    waiting: set[tuple[str, int | str]] = {("neurons", layer) for layer in mask.neurons}
    waiting |= {("heads", layer) for layer in mask.heads} | {("weights", name) for name in mask.weights}
    for name, tensor in weights:
        module = name.removesuffix(".weight") if name.endswith(".weight") else ""
        if inputs := gated_inputs(mask, module):
            check_shape(name, tensor.shape[-1], inputs.size, "input features")
            tensor = _gated(name, tensor, inputs)
            waiting.discard(inputs.component)
        if name in mask.weights:
            check_shape(name, tuple(tensor.shape), mask.meta.shapes[name], "shape")
            tensor = tensor.clone()
            tensor.view(-1)[torch.from_numpy(mask.weight_indices(name).copy())] = 0
            waiting.discard(("weights", name))
        yield name, tensor
    check_all_met(mask, waiting)


def check_all_met(mask: Mask, waiting: set[tuple[str, int]] | set[tuple[str, int | str]]) -> None:
    """Raise `MaskNotAppliedError` if any component, kind and layer or parameter, is left in `waiting`."""
    if waiting:
        missing = ", ".join(f"{kind}.{where}" for kind, where in sorted(waiting, key=str)[:5])
        raise MaskNotAppliedError(
            f"mask {mask.meta.name!r} ({mask.digest[:12]}) cuts {missing}, which the checkpoint does not hold as plain "
            "matrices (is it packed, or another model?); no model is left half corrected"
        )


def _gated(name: str, tensor: torch.Tensor, inputs: GatedInputs) -> torch.Tensor:
    columns, gates = (torch.from_numpy(part).to(tensor.device) for part in (inputs.columns, inputs.gates))
    dampened = gates > 0
    tensor = tensor.clone()
    tensor[:, columns[~dampened]] = 0
    if dampened.any():
        if not tensor.is_floating_point():
            raise NotRepresentableError(
                f"{name} holds {tensor.dtype}, in which a weight cannot be dampened; use the unquantised checkpoint"
            )
        product = tensor[:, columns[dampened]].double() * gates[dampened]
        tensor[:, columns[dampened]] = product.to(tensor.dtype)
        if not torch.equal(tensor[:, columns[dampened]].double(), product):
            raise NotRepresentableError(
                f"{name}: a dampened weight is too small for {tensor.dtype}, and would be rounded; use a checkpoint in "
                "float32"
            )
    return tensor


def check_shape(name: str, found: object, expected: object, what: str) -> None:
    """Raise `MaskNotAppliedError` where a tensor is not as the mask knows it; `what` is compared."""
    if found != expected:
        raise MaskNotAppliedError(f"{name} has {what} {found}, but the mask was made for {expected}")
