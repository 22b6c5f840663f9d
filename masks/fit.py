"""Whether a mask fits a model."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from masks.checkpoint import ParameterInfo
from masks.errors import FingerprintMismatch, GeometryMismatch, UnknownParameter
from masks.geometry import BaseModel
from masks.mask import Mask


def check(
    mask: Mask,
    model: BaseModel,
    parameters: Mapping[str, ParameterInfo] | None = None,
    *,
    allow_other_base: bool = False,
) -> None:
    """Return if `mask` may be applied to `model`; raise otherwise.

    Raises:
        FingerprintMismatch: It was made for another model (not with `allow_other_base`).
        GeometryMismatch: The geometry differs, or, given the model's `parameters`, a parameter whose weights are cut
            has another shape.
        UnknownParameter: Given the model's `parameters`, the model does not have one whose weights are cut.
    """
    base = mask.meta.base
    if base.fingerprint != model.fingerprint and not allow_other_base:
        raise FingerprintMismatch(
            f"mask {mask.name} was made for {base.id}, fingerprint {base.fingerprint}; this model is {model.id}, "
            f"fingerprint {model.fingerprint}. Make a mask for this model, or allow another base model "
            "(--allow-other-base) if it is a fine-tune of the same geometry"
        )
    if base.geometry != model.geometry:
        raise GeometryMismatch(
            f"mask {mask.name} was made for {base.id}, of {base.geometry}; this model, {model.id}, is of "
            f"{model.geometry}. Make a mask for this model"
        )
    if parameters is None:
        return
    for name, shape in mask.meta.shapes.items():
        if name not in parameters:
            raise unknown_parameter(name, parameters, f"mask {mask.name} on {model.id}")
        if parameters[name].shape != shape:
            raise GeometryMismatch(
                f"mask {mask.name} cuts {name} of shape {shape}; in {model.id} its shape is {parameters[name].shape}. "
                "Make a mask for this model"
            )


def unknown_parameter(name: str, parameters: Iterable[str], where: str) -> UnknownParameter:
    """The error for a parameter that a model does not have, with the names closest to it."""
    near = get_close_matches(name, list(parameters), n=3, cutoff=0.5)
    hint = f"near names: {', '.join(near)}" if near else "masks.parameters(model_dir) lists its names"
    return UnknownParameter(f"{where}: the model has no parameter {name!a:.300}; {hint}")
