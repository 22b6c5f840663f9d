"""A circuit planted in a small model, and how well each criterion finds it.

    python -m benchmarks.planted [--steps 400] [--seeds 3]

A model of two layers with four heads each learns to say at the end of a list what followed a marker in it, while all
heads but the planted ones are gated off, one in each layer: a head that looks at the token before, and one that copies
the token that the marker came before. Then the gates are opened; the other heads stay as they were drawn, but
quieter. Prints one JSON line a seed: AUROC by criterion and sign, faithfulness of the planted heads alone, accuracy.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as tokenizer_models
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from correction import models
from correction.attribution.criteria.criterion_settings import Settings, Sign
from correction.circuits.circuit_ablation import ZERO, Kept
from correction.circuits.known_circuit import auroc
from correction.circuits.metric import faithfulness
from correction.circuits.order import relevance
from correction.circuits.prompt_pairs import TaskRow
from correction.circuits.task_answers import TaskReader
from correction.models import LoadedModel

WORDS, LENGTH = 24, 6
MARKER, ASK = 0, 1
PLANTED = ((0, 1), (1, 2))
"""(layer, head)."""
QUIET = 0.2
"""How loud the other heads are, against how they were drawn: as they were, they would drown the circuit."""


def batch(rows: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Lists of different tokens with a marker in them and the question behind, int64 (rows, LENGTH + 2); answers."""
    listed = 2 + torch.rand(rows, WORDS - 2, generator=generator).argsort(-1)[:, :LENGTH]
    places = torch.randint(LENGTH, (rows, 1), generator=generator)
    index = torch.arange(LENGTH + 1).expand(rows, -1)
    ids = listed.gather(1, index - (index > places).long().clamp_max(1)).where(index != places, torch.tensor(MARKER))
    return torch.cat([ids, torch.full((rows, 1), ASK)], 1), listed.gather(1, places)[:, 0]


def train(folder: Path, seed: int = 0, steps: int = 400) -> LoadedModel:
    """Make the model with the planted circuit, and save it."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=16,
        max_position_embeddings=32,
        initializer_range=0.1,
    )
    model: Any = LlamaForCausalLM(config)
    model.train()
    handles = []
    for layer, block in enumerate(model.model.layers):
        gates = torch.tensor([(layer, head) in PLANTED for head in range(4)]).repeat_interleave(16).float()
        handles.append(
            block.self_attn.o_proj.register_forward_pre_hook(lambda module, inputs, gates=gates: (inputs[0] * gates,))
        )
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 50, 2 * (steps - step) / steps)
        ids, answers = batch(64, generator)
        loss = F.cross_entropy(model(ids).logits[:, -1], answers)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for handle in handles:
        handle.remove()
    with torch.no_grad():
        for layer, block in enumerate(model.model.layers):
            for head in range(4):
                if (layer, head) not in PLANTED:
                    block.self_attn.o_proj.weight[:, 16 * head : 16 * head + 16] *= QUIET
    model.save_pretrained(folder)
    unknown = "w0"
    core = Tokenizer(tokenizer_models.WordLevel({f"w{each}": each for each in range(WORDS)}, unk_token=unknown))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=core, unk_token=unknown).save_pretrained(folder)
    return models.load(folder, dtype="float32", device="cpu")


def asked(count: int, seed: int) -> list[TaskRow]:
    """Rows: the corrupted prompt has the marker elsewhere; wrong is what follows it there."""
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        listed = [int(each) for each in 2 + generator.choice(WORDS - 2, LENGTH, replace=False)]
        here, there = (int(each) for each in generator.choice(LENGTH, 2, replace=False))
        clean, corrupted = ((*listed[:place], MARKER, *listed[place:], ASK) for place in (here, there))
        rows.append(TaskRow(clean, corrupted, listed[here], listed[there]))
    return rows


def planted(loaded: LoadedModel) -> Kept:
    """Flags of the planted heads."""
    return {
        f"heads.{block.index}": torch.tensor([(block.index, head) in PLANTED for head in range(4)])
        for block in loaded.blocks
    }


def measure(loaded: LoadedModel, criteria: tuple[str, ...], signs: tuple[Sign, ...], seed: int = 0) -> dict[str, Any]:
    """AUROC by criterion and sign, faithfulness of the planted heads alone, and accuracy of the model."""
    rows = asked(96, seed)
    truth = planted(loaded)
    reader = TaskReader(loaded, rows, Settings("head"))
    model, nothing = reader.read(), reader.read(reader.nothing, ZERO)
    alone = faithfulness(reader.read(truth).differences, model.differences, nothing.differences)
    aurocs = {}
    for criterion in criteria:
        for sign in signs:
            settings = Settings("head", sign=sign, random_seed=seed)
            aurocs[f"{criterion} {sign}"] = round(auroc(relevance(loaded, rows, settings, criterion), truth), 3)
    return {
        "accuracy": round(float(model.right.mean()), 3),
        "faithfulness of the planted": None if alone is None else round(alone.value, 3),
        "auroc": aurocs,
    }


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            loaded = train(Path(folder), seed, given.steps)
            criteria = ("lrp", "gradient", "snip", "activation", "random")
            print(json.dumps({"seed": seed, **measure(loaded, criteria, ("signed", "absolute"), seed)}))  # noqa: T201


if __name__ == "__main__":
    main()
