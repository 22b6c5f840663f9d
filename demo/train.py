"""Train the demo model from scratch: `python -m demo.train` (one seed, about ten minutes on two cores).

The tokenizer is a byte-level BPE learned on the same generated text. Every step sees new documents.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from demo.measure import figures, load
from demo.text import ASSISTANT, BOS, END, PAD, SYSTEM, USER, documents

MODEL = Path(__file__).parent / "model"
SEED = 7
STEPS = 2400
BATCH = 32
LEARNING_RATE = 2.5e-3
MAX_TOKENS = 256
_CHUNK = 16  # batches drawn and sorted by length together

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build_tokenizer(texts: list[str], vocabulary: int = 2048) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE with the chat marks as special tokens; plain text gets `bos` in front."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    marks = [PAD, BOS, END, SYSTEM, USER, ASSISTANT]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=marks, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    core.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, marks.index(BOS))])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return an untrained Llama: 6 layers, hidden size 128, 512 neurons a layer, 1.7 million parameters."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def batches(tokenizer: PreTrainedTokenizerFast, steps: int, seed: int) -> Iterator[torch.Tensor]:
    """Yield `steps` batches of token ids, padded on the right; documents of like length come together."""
    generator = torch.Generator().manual_seed(seed)
    for chunk in range(math.ceil(steps / _CHUNK)):
        encoded = tokenizer(documents(_CHUNK * BATCH, seed * 100_000 + chunk), truncation=True, max_length=MAX_TOKENS)
        ordered = sorted(encoded["input_ids"], key=len)
        groups = [ordered[i : i + BATCH] for i in range(0, len(ordered), BATCH)]
        for index in torch.randperm(len(groups), generator=generator).tolist()[: steps - chunk * _CHUNK]:
            width = 16 * math.ceil(
                max(map(len, groups[index])) / 16
            )  # few different shapes: kernels are cached by shape
            ids = torch.full((BATCH, width), tokenizer.pad_token_id)
            for row, document in zip(ids, groups[index], strict=True):
                row[: len(document)] = torch.tensor(document)
            yield ids


def train(steps: int, out: Path, seed: int = SEED) -> None:
    """Train with AdamW (warm-up, then cosine) in bf16 autocast, and save a bf16 checkpoint in `out`."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(documents(8000, seed))
    model = build_model(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    warm_up = min(100, steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warm_up, 0.02 + 0.49 * (1 + math.cos(math.pi * s / steps)))
    )
    console = Console(stderr=True)
    progress = track(batches(tokenizer, steps, seed + 1), "training", steps, console=console, disable=steps < 10)
    for step, ids in enumerate(progress):
        labels = ids.masked_fill(ids == tokenizer.pad_token_id, -100)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 250 == 249:
            console.print(f"step {step + 1}: loss {loss.item():.3f}")
    save(model, tokenizer, out)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the bf16 checkpoint, its tokenizer and a greedy generation config into `out`."""
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.bfloat16().save_pretrained(out)
    tokenizer.save_pretrained(out)


def main(
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = STEPS,
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")] = MODEL,
    seed: Annotated[int, typer.Option(help="Seed of text and weights.")] = SEED,
) -> None:
    """Retrain the demo model and print how the saved checkpoint behaves on the held-out data."""
    torch.set_num_threads(1)  # the model is too small for more: threads would only wait for each other
    train(steps, out, seed)
    typer.echo(json.dumps(figures(*load(out)), indent=1))


if __name__ == "__main__":
    typer.run(main)
