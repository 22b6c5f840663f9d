"""A small random model of each family that vLLM can run on a CPU (heads of 32 channels), its masks, and hand edits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

import masks
from edits.places import heads_enter, neurons_enter

VOCABULARY = 320
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GATED = {
    **COMMON,
    "intermediate_size": 192,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "initializer_range": 0.15,
    "tie_word_embeddings": False,
}
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**GATED)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**GATED, sliding_window=None)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**GATED)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**GATED)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**COMMON, ffn_dim=192, init_std=0.15, word_embed_proj_dim=128)),
}


def make(family: str, folder: Path, **options) -> Path:
    """Save a model of ``family`` whose biases and norms are not the trivial ones."""
    torch.manual_seed(3)
    model = FAMILIES[family]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder, **options)
    return folder


def drawn(
    folder: Path,
    name: str,
    seed: int,
    *,
    neurons: float = 0.2,
    heads: int = 2,
    weights: int = 0,
    dampened: bool = False,
) -> masks.Mask:
    """A random mask: a share of all neurons, some heads, some weights of every projection of the first two layers.

    If ``dampened``, two thirds of the neurons and half of the heads are not cut.
    """
    rng = np.random.default_rng(seed)
    geometry = masks.describe(folder).geometry
    cut = {layer: np.flatnonzero(rng.random(geometry.neurons) < neurons).tolist() for layer in range(geometry.layers)}
    off = (
        {int(rng.integers(geometry.layers)): rng.choice(geometry.heads, heads, replace=False).tolist()} if heads else {}
    )
    single = {}
    for parameter, info in masks.parameters(folder).items():
        if weights and len(info.shape) == 2 and (".layers.0." in parameter or ".layers.1." in parameter):
            single[parameter] = rng.choice(int(np.prod(info.shape)), weights, replace=False).tolist()
    if not dampened:
        return masks.for_model(folder, name, neurons=cut, heads=off, weights=single)
    gated = {layer: {neuron: (0, 0.25, 0.5)[place % 3] for place, neuron in enumerate(of)} for layer, of in cut.items()}
    halved = {layer: {head: (0.5, 0)[place % 2] for place, head in enumerate(of)} for layer, of in off.items()}
    return masks.for_model(folder, name, neurons=gated, heads=halved, weights=single)


def edited(folder: Path, mask: masks.Mask, to: Path) -> Path:
    """A copy of the checkpoint with what ``mask`` cuts or dampens multiplied by plain indexing."""
    shutil.copytree(folder, to)
    with safe_open(folder / "model.safetensors", "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    for name, tensor in tensors.items():
        module = name.removesuffix(".weight")
        if name.endswith(".weight"):
            scale_columns(tensor, mask, "neurons", neurons_enter(module), 1)
            scale_columns(tensor, mask, "heads", heads_enter(module), 32)
        if name in mask.weights:
            tensor.view(-1)[mask.weight_indices(name).tolist()] = 0
    save_file(tensors, to / "model.safetensors", metadata=metadata)
    return to


def scale_columns(tensor: torch.Tensor, mask: masks.Mask, kind: str, layer: int | None, width: int) -> None:
    """Multiply the columns of each component of a layer, ``width`` to a component, by its gate."""
    indices = getattr(mask, kind).get(layer)
    if indices is not None:
        for index, gate in zip(indices.tolist(), mask.gate_values(kind, layer).tolist(), strict=True):
            tensor[:, index * width : (index + 1) * width] *= gate


def with_older_weights(folder: Path, to: Path) -> Path:
    """A copy of the model with a second file of all its tensors, at other values, and an `lm_head` of its own."""
    shutil.copytree(folder, to)
    with safe_open(folder / "model.safetensors", "pt") as file:
        older = {name: file.get_tensor(name).flip(0).contiguous() for name in file.keys()}  # noqa: SIM118
    older.setdefault("lm_head.weight", older["model.embed_tokens.weight"].clone())
    save_file(older, to / "model_old.safetensors", {"format": "pt"})
    return to


def crowded(folder: Path, to: Path) -> Path:
    """A copy of the model beside whatever else people keep there: older weights, masks, adapters, half downloads."""
    with_older_weights(folder, to)
    shutil.copy(to / "model_old.safetensors", to / "consolidated.safetensors")
    masks.save(masks.for_model(folder, "kept-here", neurons={0: [1]}), to / "kept-here.safetensors")
    save_file({"base_model.model.x.lora_A.weight": torch.ones(1, 128)}, to / "adapter_model.safetensors")
    (to / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "target_modules": ["q_proj"]}')
    (to / "broken.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    (to / "params.json").write_text('{"dim": 1}')
    (to / "training_args.bin").write_bytes(b"x")
    return to


def packed(folder: Path, to: Path, mask: masks.Mask | None = None) -> Path:
    """A 4-bit GPTQ checkpoint (random, symmetric, groups of 32), with the inputs that ``mask`` cuts at zero.

    Eight inputs share an int32, the first in its lowest bits; 8 stands for zero.
    """
    shutil.copytree(folder, to)
    generator = torch.Generator().manual_seed(7)
    tensors = {}
    with safe_open(folder / "model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118
            tensor, module = file.get_tensor(name), name.removesuffix(".weight")
            if not module.endswith("_proj"):
                tensors[name] = tensor.to(torch.bfloat16)
                continue
            outputs, inputs = tensor.shape
            levels = torch.randint(0, 16, (inputs, outputs), generator=generator)
            layer = neurons_enter(module)
            if mask and layer is not None:
                levels[mask.neurons.get(layer, np.empty(0, np.int32)).tolist()] = 8
            layer = heads_enter(module)
            for head in mask.heads.get(layer, ()) if mask and layer is not None else ():
                levels[head * 32 : head * 32 + 32] = 8
            words = (levels.view(inputs // 8, 8, outputs) << (4 * torch.arange(8)).view(1, 8, 1)).sum(1)
            tensors[f"{module}.qweight"] = words.to(torch.int64).to(torch.int32)
            tensors[f"{module}.qzeros"] = torch.full((inputs // 32, outputs // 8), 0x77777777, dtype=torch.int32)
            tensors[f"{module}.scales"] = torch.full((inputs // 32, outputs), 0.03, dtype=torch.float16)
            tensors[f"{module}.g_idx"] = torch.arange(inputs, dtype=torch.int32) // 32
    save_file(tensors, to / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((to / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": 32,
        "desc_act": False,
        "sym": True,
    }
    (to / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16", "torch_dtype": "bfloat16"}))
    return to
