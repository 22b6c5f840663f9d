"""A mask as the rank-1 adapter in which its gate rows travel into the engine.

The files follow PEFT's layout, because that is what vLLM reads. ``lora_A`` is one row of flags, 1 at each input that is
cut; ``lora_B`` is zeros and never used. This is a means of transport, not a LoRA: only the gates give it its meaning.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from masks import Mask

GATED = ("down_proj", "o_proj")
"""The matrices that gates stand in front of, in Llama, Mistral, Qwen2 and Qwen3: neurons, heads."""


def flags(mask: Mask) -> dict[str, np.ndarray]:
    """Module name → row of flags, float32, shape (1, inputs), 1 where an input is cut. Only layers with a cut."""
    geometry = mask.meta.base.geometry
    rows: dict[str, np.ndarray] = {}
    for layer, neurons in mask.neurons.items():
        row = np.zeros((1, geometry.neurons), np.float32)
        row[0, neurons] = 1
        rows[f"model.layers.{layer}.mlp.down_proj"] = row
    for layer, heads in mask.heads.items():
        row = np.zeros((1, geometry.heads, geometry.head_dim), np.float32)
        row[0, heads] = 1
        rows[f"model.layers.{layer}.self_attn.o_proj"] = row.reshape(1, -1)
    return rows


def cut_inputs(mask: Mask) -> int:
    """How many matrix inputs the gates of ``mask`` set to zero: one a neuron, ``head_dim`` a head."""
    counts = mask.counts
    return counts["neurons"] + counts["heads"] * mask.meta.base.geometry.head_dim


def write(mask: Mask, folder: Path) -> Path:
    """Write the adapter of ``mask`` to ``folder / digest`` unless it is there; return that path.

    The folder appears whole or not at all.
    """
    final = folder / mask.digest
    if final.is_dir():
        return final
    hidden = mask.meta.base.geometry.hidden
    tensors: dict[str, np.ndarray] = {}
    # A mask that cuts nothing still needs one tensor, or vLLM finds the adapter empty.
    rows = flags(mask) or {"model.layers.0.mlp.down_proj": np.zeros((1, mask.meta.base.geometry.neurons), np.float32)}
    for module, row in rows.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = row
        tensors[f"base_model.model.{module}.lora_B.weight"] = np.zeros((hidden, 1), np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    save_file(tensors, temporary / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": list(GATED), "bias": "none"}
    (temporary / "adapter_config.json").write_text(json.dumps(config))
    os.rename(temporary, final)
    return final
