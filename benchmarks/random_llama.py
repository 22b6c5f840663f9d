"""A random Llama on disk, with a tokenizer, masks and adapters: what the serving benchmarks serve."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import masks
from edits import peft
from masks import Mask


@dataclass(frozen=True)
class Shape:
    """The sizes of the model. A head has 64 channels, or 32 where the model is narrower than 512."""

    layers: int = 12
    hidden: int = 768
    intermediate: int = 2048
    kv_heads: int = 4
    vocabulary: int = 32000

    @property
    def heads(self) -> int:
        """Attention heads of a layer."""
        return self.hidden // (64 if self.hidden >= 512 else 32)


TINY = Shape(layers=2, hidden=128, intermediate=256, kv_heads=2, vocabulary=1024)
"""For a check that the benchmark runs."""


def shape_of(folder: Path) -> Shape:
    """That of a Llama on disk."""
    config = json.loads((folder / "config.json").read_text())
    names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_key_value_heads", "vocab_size")
    return Shape(*(config[name] for name in names))


def write(folder: Path, shape: Shape, dtype: str, positions: int) -> None:
    """Write config, safetensors and tokenizer into `folder`; `positions` is the longest context in tokens."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=positions,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).to(getattr(torch, dtype))
    model.save_pretrained(folder)
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, shape.vocabulary)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = WhitespaceSplit()
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def random_mask(model: Path, name: str, seed: int, neurons: int = 6) -> Mask:
    """A mask that cuts `neurons` random neurons of every layer."""
    geometry = masks.describe(model).geometry
    rng = np.random.default_rng(seed)
    cut = {layer: rng.choice(geometry.neurons, neurons, replace=False) for layer in range(geometry.layers)}
    return masks.for_model(model, name, neurons=cut)


def mask_files(model: Path, folder: Path, count: int) -> dict[str, Path]:
    """`count` random masks in `folder`: name → file."""
    files = {f"mask-{number:02}": folder / f"mask-{number:02}.safetensors" for number in range(count)}
    for number, (name, file) in enumerate(files.items()):
        masks.save(random_mask(model, name, number), file)
    return files


def adapters(model: Path, folder: Path, files: dict[str, Path]) -> dict[str, Path]:
    """The masks as stock LoRA adapters in `folder`: name → folder of the adapter."""
    for name, file in files.items():
        peft.write(masks.load(file), model, folder / name)
    return {name: folder / name for name in files}


def parameters(model: Path) -> int:
    """How many there are in the checkpoint's tensors."""
    return sum(math.prod(each.shape) for each in masks.parameters(model).values())


def bytes_of(model: Path) -> int:
    """The size of the checkpoint's tensors, their headers counted in (some KB)."""
    return sum(os.path.getsize(file) for file in model.glob("*.safetensors"))
