"""Time of LRP attribution against plain training work and against LXT's rules; prints one JSON line.

    python -m benchmarks.attribution [--dtype bfloat16] [--rows 4] [--tokens 512] [--seed all] [--runs 9] [--threads 2]
    python -m benchmarks.attribution --preset tinyllama [--device cpu]      one text of 2,048 tokens, bfloat16

A random Llama; the preset has the shape of TinyLlama-1.1B. One batch of `--rows` texts is attributed by `attribute`,
from text to scores, so that attaching and averaging count in full. Compared with it, on the same batch:

- `frozen`: forward and backward from the embeddings, all weights frozen. For neurons and heads, aim ≤ 1.05.
- `training_step`: forward and backward with the gradients of all weights, no optimiser. For weights, aim ≤ 1.15.
- `same_gradients`: the same, with the gradients of the scored matrices alone.
- `lxt_…`: LXT's own patches for Llama, used as its README shows: one sample at a time, hooks that keep each activation
  and its gradient and multiply afterwards; for weights, w · w.grad added up in float32. (The README takes the logits of
  every token; here the loop is spared those that do not count.) The patches come from the files of PyPI's lxt 2.1, as
  the package does not import on transformers 5; where it is not installed, these kinds are left out.

Weights are those of all linear modules of the layers. The kinds take turns, every other round backwards, so that a slow
moment of the machine hits all of them. `seconds` are medians over the rounds; `ratios` are taken within a round: lower
quartile, median, upper quartile. `difference_from_lxt` is the largest difference of a score over the largest score of
its matrix. `peak_GB` is of the device's memory, the model in it, and only measured on GPUs: elsewhere, see
`benchmarks.attribution_memory`.
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution, version
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import Tensor, nn
from transformers.models.llama import modeling_llama

from benchmarks.attribution_memory import MODULES, device_name, parsed, parser_of, random_llama, random_texts
from correction import instances
from correction.attribution.attribution import attribute
from correction.attribution.criteria import Settings
from correction.attribution.criteria.scored_modules import find_scored_modules
from correction.attribution.relevance import Relevance
from correction.models import LoadedModel

BASES = {
    "neurons": ("frozen", "training_step", "lxt_neurons"),
    "heads": ("frozen", "training_step", "lxt_heads"),
    "weights": ("training_step", "same_gradients", "lxt_weights"),
    "weights_absolute": ("training_step", "same_gradients", "lxt_weights"),
}
"""What each kind of attribution is set against."""


def lxt_patches() -> Any:
    """LXT's patches for transformers' models, or None where it is not installed."""
    try:
        installed = distribution("lxt")
    except PackageNotFoundError:
        return None
    with patch.dict("sys.modules"):
        for name in ("rules", "patches"):
            path = str(installed.locate_file(f"lxt/efficient/{name}.py"))
            spec = cast(Any, importlib.util.spec_from_file_location(f"lxt.efficient.{name}", path))
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
    return module


@contextmanager
def lxt_rules(patches: Any) -> Iterator[None]:
    """Within the block, LXT's patches are on transformers' Llama, where its `monkey_patch` puts them."""
    attention = modeling_llama.ALL_ATTENTION_FUNCTIONS
    divided = patches.wrap_attention_forward(attention["sdpa"])
    with (
        patch.object(modeling_llama.LlamaMLP, "forward", patches.gated_mlp_forward),
        patch.object(modeling_llama.LlamaRMSNorm, "forward", patches.rms_norm_forward),
        patch.dict(attention._local_mapping, sdpa=divided),
    ):
        yield


def lxt_loop(loaded: LoadedModel, ids: Tensor, patches: Any, settings: Settings) -> Relevance:
    """Mean relevance by LXT's rules, sample after sample."""
    places = list(find_scored_modules(loaded, settings))
    totals = {place.name: torch.zeros(place.shape, device=loaded.device) for place in places}
    kept: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        kept[module] = inputs[0]
        inputs[0].retain_grad()

    with instances.frozen_parameters(loaded.model), lxt_rules(patches), ExitStack() as hooks:
        for place in places:
            if place.width:
                hooks.callback(place.module.register_forward_pre_hook(keep).remove)
            else:
                place.module.weight.requires_grad_()
        for row in ids:
            embedded = loaded.model.get_input_embeddings()(row[None])
            if settings.granularity != "weight":
                embedded.requires_grad_()
            last = int(settings.seed == "last")
            logits = loaded.model(inputs_embeds=embedded, use_cache=False, logits_to_keep=last).logits
            logits.float().max(-1).values.mean().backward()
            with torch.no_grad():
                for place in places:
                    value = kept.pop(place.module) if place.width else place.module.weight
                    relevance = value * cast(Tensor, value.grad)
                    value.grad = None
                    if place.width:
                        relevance = relevance.sum((0, 1), dtype=torch.float32).unflatten(0, (-1, place.width)).sum(-1)
                    totals[place.name] += relevance.abs() if settings.sign == "absolute" else relevance
    scores = {name: total.div_(len(ids)).cpu() for name, total in totals.items()}
    return Relevance(settings.granularity, scores, len(ids))


def kinds(loaded: LoadedModel, options: argparse.Namespace) -> dict[str, Callable[[], Relevance | None]]:
    """What is timed: name → one run."""
    model, patches = loaded.model, lxt_patches()
    ids, texts, batch = random_texts(loaded, options)

    def frozen() -> None:
        hook = model.get_input_embeddings().register_forward_hook(lambda module, x, output: output.requires_grad_())
        with instances.frozen_parameters(model):
            batch.output(loaded).backward()
        hook.remove()

    def with_gradients(*modules: str) -> None:
        with instances.frozen_parameters(model):
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(not modules or name.split(".")[-2] in modules)
            batch.output(loaded).backward()

    runs: dict[str, Callable[[], Relevance | None]] = {
        "frozen": frozen,
        "training_step": with_gradients,
        "same_gradients": partial(with_gradients, *MODULES),
    }
    for name, settings in {
        "neurons": Settings("neuron", options.seed),
        "heads": Settings("head", options.seed),
        "weights": Settings("weight", options.seed, "signed", MODULES),
        "weights_absolute": Settings("weight", options.seed, "absolute", MODULES),
    }.items():
        runs[name] = partial(attribute, loaded, texts, settings, tokens=ids.numel())
        if patches and name != "weights_absolute":
            runs[f"lxt_{name}"] = partial(lxt_loop, loaded, ids, patches, settings)
    return runs


def timed(run: Callable[[], Relevance | None], device: str) -> tuple[float, float, Relevance | None]:
    """Seconds, the most gigabytes allocated on the GPU, and the scores."""
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    scores = run()
    if cuda:
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, torch.cuda.max_memory_allocated(device) / 1e9 if cuda else 0.0, scores


def difference(found: Relevance, expected: Relevance) -> float:
    """Largest difference of a score, relative to the largest score of its matrix."""
    pairs = [(found.scores[name], score) for name, score in expected.scores.items()]
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)


def main() -> None:
    """Time the kinds in turn and print one JSON line."""
    parser = parser_of(__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--kinds", help="only these, by commas")
    options = parsed(parser)
    load = os.getloadavg()[0]
    loaded = random_llama(options)
    runs = kinds(loaded, options)
    names = [name for name in runs if not options.kinds or name in options.kinds.split(",")]
    times: dict[str, list[float]] = {name: [] for name in names}
    peaks, scores, differences = {}, {}, {}
    for number in range(options.runs + 1):
        for name in names if number % 2 else names[::-1]:
            loaded.model.zero_grad(set_to_none=True)
            seconds, peaks[name], relevance = timed(runs[name], options.device)
            if number:
                times[name].append(seconds)
            elif relevance and name != "weights_absolute":
                # The first round warms up, and shows that all compute the same.
                scores[name.removeprefix("lxt_"), name.startswith("lxt_")] = relevance
            del relevance
        for name in {name for name, theirs in scores if (name, not theirs) in scores}:
            differences[name] = float(f"{difference(scores[name, False], scores[name, True]):.1e}")
        scores.clear()
    ratios = {}
    for kind, bases in BASES.items():
        for base in bases:
            if {kind, base} <= times.keys():
                each = [one / other for one, other in zip(times[kind], times[base], strict=True)]
                quartiles = statistics.quantiles(each, method="inclusive") if len(each) > 1 else each
                ratios[f"{kind}/{base}"] = [round(value, 3) for value in quartiles]
    result = {
        "benchmark": "attribution",
        "seconds": {name: round(statistics.median(each), 4) for name, each in times.items()},
        "ratios": ratios,
        "difference_from_lxt": differences,
        "peak_GB": {name: round(peak, 2) for name, peak in peaks.items()} if options.device != "cpu" else None,
        "settings": vars(options),
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "device": device_name(options.device),
        "load_before": round(load, 2),
        "threads": torch.get_num_threads(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main()
