"""Time of an LRP attribution against a plain forward and backward of the same batch; prints one JSON line.

    python benchmarks/attribution.py [--layers 8] [--hidden 512] [--tokens 512] [--rows 4] [--dtype float32] [--runs 9]

A random Llama. Neurons are compared with a backward pass that also makes weight gradients (a training step without its
optimiser) and with one through frozen weights, from the embeddings; weights (those of the MLPs, and every linear module
of the layers) with the training step. The kinds take turns, so that a slow moment of the machine hits all of them;
medians are compared, and the share of one run against the training step of the same turn.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from correction.criteria import Settings, lrp
from correction.criteria.seeds import Sample, seeded
from correction.models import LoadedModel, wrap

EVERY_MODULE = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def random_llama(options: argparse.Namespace) -> LoadedModel:
    """A random Llama of the size asked for."""
    config = LlamaConfig(
        hidden_size=options.hidden,
        intermediate_size=options.hidden * 11 // 4,
        num_hidden_layers=options.layers,
        num_attention_heads=max(1, options.hidden // 64),
        num_key_value_heads=max(1, options.hidden // 256),
        vocab_size=options.vocabulary,
        max_position_embeddings=max(2048, options.tokens),
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.to(dtype=getattr(torch, options.dtype))  # type: ignore[call-arg]
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = wrap(model, cast(Any, SimpleNamespace()), folder)
    loaded.model.to("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[arg-type]
    return loaded


def kinds(loaded: LoadedModel, options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """What is timed: name → one run."""
    ids = torch.randint(options.vocabulary, (options.rows, options.tokens))
    samples = [Sample(tuple(row)) for row in ids.tolist()]
    batches = list(seeded(samples, "last", tokens=ids.numel(), device=loaded.device))
    model = loaded.model

    def training_step() -> None:
        model.zero_grad(set_to_none=True)
        batches[0].output(loaded).backward()

    def frozen() -> None:
        model.requires_grad_(False)
        embedded = model.get_input_embeddings()(batches[0].batch.input_ids).requires_grad_()
        hidden = loaded.decoder(inputs_embeds=embedded, use_cache=False).last_hidden_state
        model.get_output_embeddings()(hidden[:, -1]).float().max(-1).values.sum().backward()
        model.requires_grad_(True)

    def attribution(**settings: Any) -> Callable[[], object]:
        return lambda: lrp.relevance(loaded, batches, Settings(**settings))

    return {
        "training_step": training_step,
        "frozen": frozen,
        "neurons": attribution(granularity="neuron"),
        "weights_mlp": attribution(granularity="weight", modules=EVERY_MODULE[4:], sign="signed"),
        "weights_all": attribution(granularity="weight", modules=EVERY_MODULE, sign="signed"),
        "weights_all_absolute": attribution(granularity="weight", modules=EVERY_MODULE, sign="absolute"),
    }


def timed(run: Callable[[], object]) -> float:
    """Seconds of one run."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Time the kinds in turn and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 8), ("hidden", 512), ("tokens", 512), ("rows", 4), ("runs", 9), ("threads", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    loaded = random_llama(options)
    runs = kinds(loaded, options)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.runs + 1):
        for name, run in runs.items():
            loaded.model.zero_grad(set_to_none=True)
            times[name].append(timed(run))
    median = {name: statistics.median(each[1:]) for name, each in times.items()}  # the first run warms up
    ratios = {
        f"{name}/{base}": round(
            statistics.median(a / b for a, b in zip(times[name][1:], times[base][1:], strict=True)), 3
        )
        for name in runs
        for base in ("training_step", "frozen")
        if name not in ("training_step", "frozen") and (base == "training_step" or name == "neurons")
    }
    found = {
        "benchmark": "attribution",
        "seconds": {name: round(value, 4) for name, value in median.items()},
        "ratios": ratios,
        "settings": vars(options),
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
