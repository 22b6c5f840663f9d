"""Perplexity of a compressed model: every method at 50% and at 2:4, against the dense model, window by window.

    python -m benchmarks.compression demo/smollm2 --out compression.jsonl --seeds 0,1,2 --read 140
    python -m benchmarks.compression demo/model --out compression.jsonl --seeds 0,1,2 --text demo/data/general.jsonl \
        --held-out demo/data/general_heldout.jsonl --windows 128 --window 128 --width 512 --read 30

Calibration: C4 passages, packed. Perplexity: WikiText-2's test set, joined, in windows of 2,048 tokens, as many as
asked for, evenly spread over the text; or of other texts. What is in the file already is not measured again. `--table`
prints the rows.
"""

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch.nn import functional as F

from benchmarks import jsonl, material
from correction.compression import METHODS, Plan, calibrate, compress, methods
from correction.compression.compress import prune
from correction.compression.matrices import linear_matrices
from correction.data.references import ReferenceSet
from correction.data.references import read as reference
from correction.evaluation.perplexity import joined_windows
from correction.models import LoadedModel, load

DATA = Path("../shared/data")
BUDGETS = ("50%", "2:4")


@torch.no_grad()
def losses(loaded: LoadedModel, windows: list[list[int]]) -> list[float]:
    """Mean loss of each window, in nats a token; its first token is not predicted."""
    window_losses = []
    for window in windows:
        ids = torch.tensor([window], device=loaded.device)
        logits = loaded.model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        window_losses.append(round(float(F.cross_entropy(logits, ids[0, 1:])), 5))
    return window_losses


@contextmanager
def restored(loaded: LoadedModel) -> Iterator[None]:
    """Put the weights back afterwards."""
    before = {place.name: place.module.weight.detach().clone() for place in linear_matrices(loaded)}
    try:
        yield
    finally:
        for place in linear_matrices(loaded):
            place.module.weight.detach().copy_(before[place.name])


def main(
    model: Annotated[str, typer.Argument(help="Folder or hub id.")],
    out: Annotated[Path, typer.Option(help="JSON lines; what is there is not measured again.")],
    data: Annotated[Path, typer.Option(help="Folder of the public data.", envvar="EXCISE_DATA")] = DATA,
    only: Annotated[
        str, typer.Option(help="Methods, comma-separated; of LRP and gradient perhaps as lrp/signed/next.")
    ] = ",".join(METHODS),
    seeds: Annotated[str, typer.Option(help="Of the calibration and of random, comma-separated.")] = "0",
    budgets: Annotated[str, typer.Option(help="Comma-separated, as 50%,2:4.")] = ",".join(BUDGETS),
    windows: Annotated[int, typer.Option(help="Calibration windows.")] = 128,
    window: Annotated[int, typer.Option(help="Tokens of a calibration window.")] = 2048,
    read: Annotated[int, typer.Option(help="Windows to measure on.")] = 16,
    width: Annotated[int, typer.Option(help="Tokens of such a window.")] = 2048,
    text: Annotated[Path | None, typer.Option(help="Text to calibrate with, in place of C4's.")] = None,
    held_out: Annotated[Path | None, typer.Option(help="Text to measure on, in place of WikiText-2.")] = None,
    dtype: Annotated[str, typer.Option(help="auto keeps the checkpoint's; float32 is faster on most CPUs.")] = "auto",
    table: Annotated[bool, typer.Option("--table", help="Print what is in the file, and measure nothing.")] = False,
) -> None:
    """Measure every method that is not in the file yet."""
    there = jsonl.read(out)
    if table:
        typer.echo(tabled(there))
        return
    loaded = load(model, dtype=dtype)
    unseen = reference(held_out) if held_out else ReferenceSet((material.articles(data),), "wikitext2_test", "text")
    given = joined_windows(loaded, unseen, width)
    spread = [given[place] for place in np.linspace(0, len(given) - 1, read).round().astype(int)]
    texts = reference(text) if text else ReferenceSet(tuple(material.passages(data)), "c4_passages", "text")
    sizes = {"model": Path(model).name, "text": unseen.name, "of": len(given)}
    sizes |= {"windows": windows, "window": window, "read": read, "width": width}
    done = {json.dumps([row["method"], row["budget"], row["seed"], row["sizes"]]) for row in there}

    def tell(method: str, budget: str, seed: int, start: float) -> None:
        made = time.perf_counter() - start
        row = {"method": method, "budget": budget, "seed": seed, "losses": losses(loaded, spread), "sizes": sizes}
        row |= {"made_s": round(made, 1), "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
        typer.echo(json.dumps(row))
        jsonl.add(out, row)

    if json.dumps(["dense", "", 0, sizes]) not in done:
        tell("dense", "", 0, time.perf_counter())
    for seed in map(int, seeds.split(",")):
        calibration = calibrate(loaded, texts, windows=windows, window=window, seed=seed)
        for method in only.split(","):
            relevance = None
            for budget in budgets.split(","):
                if json.dumps([method, budget, seed, sizes]) in done:
                    continue
                plan = _plan(method, budget, seed)
                start = time.perf_counter()
                with restored(loaded):
                    if METHODS[plan.method].local:
                        compress(loaded, calibration, plan)
                    else:  # scored once for all budgets
                        relevance = relevance or methods.whole_model_scores(loaded, calibration, plan)
                        prune(linear_matrices(loaded), relevance, plan)
                    tell(method, budget, seed, start)


def _plan(method: str, budget: str, seed: int) -> Plan:
    name, *more = method.split("/")
    given: dict[str, Any] = dict(zip(("sign", "output"), more, strict=False))
    given |= {"pattern": budget} if ":" in budget else {"fraction": float(budget.removesuffix("%")) / 100}
    return Plan(name, seed=seed, **given)


def tabled(rows: list[dict[str, Any]]) -> str:
    """Perplexity of each method and budget, and its ratio to the dense model's: mean over seeds, then each."""
    dense = {json.dumps(row["sizes"]): np.mean(row["losses"]) for row in rows if row["method"] == "dense"}
    lines = [f"dense: {' '.join(f'{np.exp(each):.2f}' for each in dense.values())}", ""]
    budgets = list(dict.fromkeys(row["budget"] for row in rows if row["budget"]))
    lines += ["| method | " + " | ".join(f"{budget} | ratio" for budget in budgets) + " |"]
    lines += ["|---|" + "---|---|" * len(budgets)]
    for method in dict.fromkeys(row["method"] for row in rows if row["budget"]):
        cells = []
        for budget in budgets:
            mine = [row for row in rows if (row["method"], row["budget"]) == (method, budget)]
            means = [np.mean(row["losses"]) for row in mine]
            ratios = [np.exp(mean - dense[json.dumps(row["sizes"])]) for mean, row in zip(means, mine, strict=True)]
            each = f" ({', '.join(f'{ratio:.3g}' for ratio in ratios)})" if len(ratios) > 1 else ""
            cells += [f"{np.exp(np.mean(means)):.4g}", f"{np.mean(ratios):.3g}{each}"] if mine else ["", ""]
        if any(cells):
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
