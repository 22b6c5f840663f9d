"""A mask of neurons and heads as a PEFT IA³ adapter: one vector of gates on the input of each matrix that they enter.

IA³ (Liu et al., 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning")
multiplies activations by a vector. On a feed-forward module that is the module's input
(`peft/tuners/ia3/layer.py: Linear.forward`), so `o_proj` is named as one too. The result is that of gates: cut or
dampened exactly, with no matrix changed. PEFT's own `unmerge` divides by the vector and cannot bring back what was
cut; load the model again instead.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file

import masks
from edits.cuts import check_all_met, check_shape
from edits.errors import NotRepresentableError
from edits.output_folder import atomic_folder
from edits.places import gated_inputs, module_of
from masks import Mask


def write(mask: Mask, model_dir: str | os.PathLike[str], folder: str | os.PathLike[str]) -> dict[str, int]:
    """Write `adapter_config.json` and `adapter_model.safetensors`; the vectors are float32, shape (1, inputs).

    Returns:
        Module → how many of its inputs are changed.

    Raises:
        NotRepresentableError: The mask cuts single weights, or nothing.
        MaskNotAppliedError: A matrix is not in the checkpoint, or has another shape.
        NotWrittenError: `folder` is not empty or cannot be written.
    """
    if mask.weights:
        raise NotRepresentableError(
            f"mask {mask.name} cuts single weights of {next(iter(mask.weights))}, and IA³ multiplies whole inputs; "
            "export a LoRA adapter (peft) or a checkpoint instead"
        )
    if not mask.count:
        raise NotRepresentableError(f"mask {mask.name} cuts nothing; serve the model as it is")
    vectors: dict[str, torch.Tensor] = {}
    gated: dict[str, int] = {}
    waiting = {("neurons", layer) for layer in mask.neurons} | {("heads", layer) for layer in mask.heads}
    for name, info in masks.parameters(model_dir).items():
        inputs = gated_inputs(mask, name.removesuffix(".weight")) if name.endswith(".weight") else None
        if inputs is None:
            continue
        check_shape(name, info.shape[-1], inputs.size, "input features")
        waiting.discard(inputs.component)
        vector = torch.ones(1, inputs.size)
        vector[0, torch.from_numpy(inputs.columns)] = torch.from_numpy(inputs.gates)
        vectors[f"base_model.model.{module_of(name)}.ia3_l"] = vector
        gated[module_of(name)] = len(inputs.columns)
    check_all_met(mask, waiting)
    with atomic_folder(Path(folder)) as partial:
        save_file(vectors, partial / "adapter_model.safetensors", {"format": "pt", "excise": mask.digest})
        (partial / "adapter_config.json").write_text(json.dumps(_config(mask, sorted(gated)), indent=2) + "\n")
    return gated


def _config(mask: Mask, modules: list[str]) -> dict[str, object]:
    return {
        "peft_type": "IA3",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": mask.meta.base.id,
        "target_modules": modules,
        "feedforward_modules": modules,
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
