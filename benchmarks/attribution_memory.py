"""Peak memory of LRP attribution of the weights of all linear modules, beside a training step; prints one JSON line.

    python -m benchmarks.attribution_memory --lengths 256,512,1024,2048 [--dtype bfloat16] [--rows 4] [--tokens 512]
    python -m benchmarks.attribution_memory --preset tinyllama [--device cpu]      one text of 2,048 tokens, bfloat16

A random Llama; the preset has the shape of TinyLlama-1.1B. It reads `--rows` texts of `--tokens` tokens; or, for each
of the `--lengths`, as many tokens in rows of that length, and one such row alone. Every kind runs once at every size,
in a process of its own, and is compared with what it cannot do without: `bound_MiB` = the weights + the sums (a float32
score of each weight, unless in files; in a training step, the gradients) + the activations that a plain forward keeps
for its backward pass, or with checkpointing the inputs of all layers and the activations of one.

`peak_MiB`: the weights, and the highest memory in use over that after loading. On CUDA that is what is allocated; on a
CPU the resident set without file pages, read every millisecond, while glibc is told (by MALLOC_MMAP_THRESHOLD_, unless
set) to give back what is freed: left to itself it keeps up to a third more, by chance. `resident_MiB` has the file
pages too: those of score files, which the system can drop (where TMPDIR is not in memory), and of code used for the
first time. `over_bound` is peak / bound, and `seconds` the time of that one cold run.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from resource import getpagesize
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any, cast

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.utils import logging

from correction.attribution.attribution import attribute
from correction.attribution.criteria import SeededBatch, Settings
from correction.attribution.criteria.output_seeds import Sample, seeded_batches
from correction.attribution.criteria.scored_modules import component_count
from correction.data.references import ReferenceSet
from correction.models import LoadedModel, wrap

SIZES = ("layers", "hidden", "intermediate", "heads", "kv_heads", "vocabulary", "rows", "tokens", "dtype")
PRESETS = {
    "small": (8, 512, 1408, 8, 2, 32000, 4, 512, "float32"),
    "tinyllama": (22, 2048, 5632, 32, 4, 32000, 1, 2048, "bfloat16"),
}
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WEIGHTS = ("weights", "weights_checkpointed", "weights_in_files", "weights_checkpointed_in_files")
KINDS = ("training", "training_checkpointed", "neurons", *WEIGHTS)


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """The options of the model and of what it reads."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=tuple(PRESETS), default="small", help="sizes that no option gives")
    for name, value in zip(SIZES, PRESETS["small"], strict=True):
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value))
    parser.add_argument(
        "--seed", default="last", choices=("last", "all"), help="whose logits: of the last token, or all"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0)
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options, with the sizes of the preset where none were given."""
    parser.set_defaults(**dict(zip(SIZES, PRESETS[parser.parse_args().preset], strict=True)))
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


def random_llama(options: argparse.Namespace) -> LoadedModel:
    """A random Llama of the size asked for, whose tokenizer reads numbers: token ids."""
    config = LlamaConfig(
        hidden_size=options.hidden,
        intermediate_size=options.intermediate,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.kv_heads,
        vocab_size=options.vocabulary,
        max_position_embeddings=max(2048, options.tokens),
    )
    torch.manual_seed(0)
    with torch.device(options.device):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, options.dtype))

    def tokenizer(text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [int(word) for word in text.split()]}

    logging.disable_progress_bar()
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return wrap(model, cast(Any, tokenizer), folder)


def random_texts(loaded: LoadedModel, options: argparse.Namespace) -> tuple[Tensor, ReferenceSet, SeededBatch]:
    """Token ids (rows, tokens); the same as a reference set; and as the one batch that is made of it."""
    ids = torch.randint(options.vocabulary, (options.rows, options.tokens), generator=torch.Generator().manual_seed(1))
    texts = tuple(" ".join(map(str, row)) for row in ids.tolist())
    samples = [Sample(tuple(row)) for row in ids.tolist()]
    (batch,) = seeded_batches(samples, options.seed, tokens=ids.numel(), device=loaded.device)
    return ids.to(loaded.device), ReferenceSet(texts, "random", "text"), batch


def device_name(device: str) -> str:
    """Of the GPU or the processor."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def resident() -> tuple[int, int]:
    """Bytes of this process in memory, without file pages and with them."""
    pages = [int(each) for each in Path("/proc/self/statm").read_text().split()]
    return (pages[1] - pages[2]) * getpagesize(), pages[1] * getpagesize()


def measured(run: Callable[[], object], device: str) -> tuple[float, int, int]:
    """Seconds, and bytes at the highest over those before: without file pages, and with them."""
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        start = time.perf_counter()
        run()
        torch.cuda.synchronize(device)
        extra = torch.cuda.max_memory_allocated(device) - before
        return time.perf_counter() - start, extra, extra
    first = resident()
    highest = list(first)
    done = Event()

    def sample() -> None:
        while not done.wait(0.001):
            highest[:] = map(max, highest, resident())

    sampler = Thread(target=sample)
    sampler.start()
    start = time.perf_counter()
    kept = run()
    seconds = time.perf_counter() - start
    done.set()
    sampler.join()
    anonymous, everything = map(max, highest, resident())
    del kept
    return seconds, anonymous - first[0], everything - first[1]


def activations(loaded: LoadedModel, batch: SeededBatch) -> int:
    """Bytes that a plain forward keeps for its backward pass, parameters left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in loaded.model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = batch.output(loaded)
    del output
    return sum(kept.values())


def one(kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one kind in this process."""
    loaded = random_llama(options)
    _, texts, batch = random_texts(loaded, options)
    if kind == "activations":
        return {"bytes": activations(loaded, batch)}
    weights = sum(parameter.nbytes for parameter in loaded.model.parameters())
    if kind.startswith("training"):
        if kind.endswith("checkpointed"):
            loaded.model.train()  # transformers checkpoints in training only; a Llama has no dropout
            loaded.model.gradient_checkpointing_enable()
        seconds, extra, everything = measured(lambda: batch.output(loaded).backward(), options.device)
        sums = weights
    else:
        settings = Settings("neuron", options.seed)
        if kind in WEIGHTS:
            settings = Settings("weight", options.seed, "signed", MODULES)
        with TemporaryDirectory() as folder:
            files, again = Path(folder) if "files" in kind else None, "checkpointed" in kind
            tokens = options.rows * options.tokens
            run = partial(attribute, loaded, texts, settings, tokens=tokens, checkpointing=again, scores_in=files)
            seconds, extra, everything = measured(run, options.device)
        sums = 0 if files else 4 * component_count(loaded, settings)
    return {"seconds": seconds, "weights": weights, "sums": sums, "extra": extra, "resident": everything}


def apart(kind: str, rows: int, tokens: int) -> dict[str, Any]:
    """The same in a process of its own."""
    configuration = ["--only", kind, "--rows", str(rows), "--tokens", str(tokens)]
    command = [sys.executable, "-m", "benchmarks.attribution_memory", *sys.argv[1:], *configuration]
    environment = {"MALLOC_MMAP_THRESHOLD_": "262144", **os.environ}
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)  # noqa: S603
    return cast(dict[str, Any], json.loads(run.stdout))


def main() -> None:
    """Measure every configuration and print one JSON line."""
    parser = parser_of(__doc__)
    parser.add_argument("--lengths", help="tokens of a row, by commas")
    parser.add_argument("--kinds", default=",".join(KINDS), help="by commas")
    parser.add_argument("--only", choices=("activations", *KINDS), help="one kind, in this process: its raw figures")
    options = parsed(parser)
    if options.only:
        print(json.dumps(one(options.only, options)))  # noqa: T201
        return
    budget = options.rows * options.tokens
    lengths = [int(each) for each in options.lengths.split(",")] if options.lengths else []
    shapes = dict.fromkeys([(max(1, budget // each), each) for each in lengths] + [(1, each) for each in lengths])
    jobs = [
        (rows, tokens, kind)
        for rows, tokens in shapes or [(options.rows, options.tokens)]
        for kind in ("activations", *options.kinds.split(","))
    ]
    configurations = []
    for rows, tokens, kind in track(jobs, "configurations", console=Console(stderr=True)):
        figures = apart(kind, rows, tokens)
        if kind == "activations":
            plain = figures["bytes"]
            continue
        inputs = rows * tokens * options.hidden * options.layers * getattr(torch, options.dtype).itemsize
        kept = inputs + plain // options.layers if "checkpointed" in kind else plain
        weights, sums = figures["weights"], figures["sums"]
        sizes = {"weights": weights, "sums": sums, "activations": kept, "bound": weights + sums + kept}
        sizes |= {"peak": weights + figures["extra"], "resident": weights + figures["resident"]}
        one_row: dict[str, Any] = {"kind": kind, "rows": rows, "tokens": tokens}
        one_row |= {f"{name}_MiB": round(value / 2**20, 1) for name, value in sizes.items()}
        one_row |= {"over_bound": round(sizes["peak"] / sizes["bound"], 3), "seconds": round(figures["seconds"], 2)}
        configurations.append(one_row)
    result = {
        "benchmark": "attribution_memory",
        "configurations": configurations,
        "settings": vars(options),
        "device": device_name(options.device),
        "threads": torch.get_num_threads(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main()
