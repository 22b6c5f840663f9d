"""A small Llama trained on real text, whose toxicity nobody planted; what the benchmarks of correction are run on.

    python -m benchmarks.real_text --data ../shared/data --out /tmp/real     about half an hour on one core

Text: web passages (C4), an encyclopaedia (WikiText-2's test set), and what people write on the web and in comments
(RealToxicityPrompts, Surge AI's set), of which the profane part comes three times as often: a model of six million
parameters would otherwise say too little of it to measure. `--out` holds the checkpoint and, under `data/`, prompts and
passages that training never saw, in three parts: one to attribute, one to choose, one to report.
"""

import csv
import json
import math
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from profanity_check import predict_prob
from rich.progress import track
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 4096
WIDTH, ROWS = 256, 16
PROMPT_TOKENS = 6
PARTS = ("attribution", "validation", "test")
PROMPTS = (600, 300, 500)
PASSAGES = (120, 100, 150)


def read(data: Path, seed: int) -> tuple[list[str], list[str], dict[str, list[str]], dict[str, list[str]]]:
    """Posts and passages to train on; then posts and passages held back, by part."""
    posts = []
    for line in (data / "real_toxicity_prompts_3500.jsonl").read_text().splitlines():
        record = json.loads(line)
        posts.append(record["prompt"]["text"] + record["continuation"]["text"])
    passages = []
    for line in (data / "c4_passages.jsonl").read_text().splitlines():
        record = json.loads(line)
        passages.append(record["prefix"] + record["gold_completion"])
    posts, passages = (
        [each[i] for i in np.random.default_rng(seed).permutation(len(each))] for each in (posts, passages)
    )
    held_posts, held_passages = {}, {}
    for part, prompts, texts in zip(PARTS, PROMPTS, PASSAGES, strict=True):
        held_posts[part], posts = posts[:prompts], posts[prompts:]
        held_passages[part], passages = passages[:texts], passages[texts:]
    with (data / "surge_toxicity_en.csv").open(newline="") as file:
        posts += [row["text"] for row in csv.DictReader(file)]
    profane = [text for text, score in zip(posts, predict_prob(posts), strict=True) if score >= 0.5]
    articles = (data / "wikitext2_test.txt").read_text()
    wide = 4000
    return (
        posts + 2 * profane,
        passages + [articles[i : i + wide] for i in range(0, len(articles), wide)],
        held_posts,
        held_passages,
    )


def tokenizer_of(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the texts; it begins every text with `<s>`."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="</s>")  # noqa: S106


def stream(tokenizer: PreTrainedTokenizerFast, texts: list[str], seed: int) -> torch.Tensor:
    """Token ids of the texts in random order, each after `<s>` and before `</s>`: int64 (tokens,)."""
    order = np.random.default_rng(seed).permutation(len(texts))
    ids = tokenizer([texts[i] for i in order], verbose=False)["input_ids"]
    return torch.tensor([token for text in ids for token in (*text, tokenizer.eos_token_id)])


def train(
    tokenizer: PreTrainedTokenizerFast, posts: list[str], passages: list[str], epochs: int, seed: int
) -> LlamaForCausalLM:
    """Train in bf16 autocast; each epoch reads the posts twice and the passages once, in another order."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=256,
            intermediate_size=768,
            num_hidden_layers=6,
            num_attention_heads=8,
            num_key_value_heads=8,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    data = torch.cat([stream(tokenizer, 2 * posts + passages, seed + epoch) for epoch in range(epochs)])
    steps = len(data) // (ROWS * WIDTH)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, betas=(0.9, 0.98), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 100, 0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))
    )
    rows = data[: steps * ROWS * WIDTH].view(-1, WIDTH)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    for step in track(range(steps), "training", steps):
        ids = rows[order[step * ROWS : (step + 1) * ROWS]]
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 99:
            typer.echo(f"step {step + 1} of {steps}: loss {loss.item():.3f}")
    return model.eval()


def write(path: Path, column: str, texts: list[str]) -> None:
    """One JSON record a line."""
    path.write_text("".join(json.dumps({column: text}) + "\n" for text in texts))


def main(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint and its held-back data.")],
    data: Annotated[Path, typer.Option(help="Folder of the public data.", envvar="EXCISE_DATA")] = Path(
        "../shared/data"
    ),
    epochs: Annotated[int, typer.Option(help="Times that the text is read.")] = 7,
    seed: Annotated[int, typer.Option(help="Seed of splits, weights and order.")] = 0,
) -> None:
    """Train the model, and write down what it never saw."""
    torch.set_num_threads(1)  # the model is too small for more: threads would only wait for each other
    posts, passages, held_posts, held_passages = read(data, seed)
    tokenizer = tokenizer_of(posts + passages)
    (out / "data").mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        starts = tokenizer(held_posts[part], verbose=False)["input_ids"]
        prompts = [str(tokenizer.decode(ids[1 : PROMPT_TOKENS + 1])) for ids in starts]
        write(out / "data" / f"prompts_{part}.jsonl", "prompt", [prompt for prompt in prompts if prompt.strip()])
        write(out / "data" / f"general_{part}.jsonl", "text", held_passages[part])
    model = train(tokenizer, posts, passages, epochs, seed)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    typer.run(main)
