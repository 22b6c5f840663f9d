"""Does it pay to put a head's mean in its place, and not zero? KL per token of both, for heads drawn at random.

    python -m benchmarks.heads_mean MODEL [--heads 60] [--data ../shared/data]

A head's mean is that of what it feeds `o_proj`, over the tokens of the search's C4 passages: the constant that costs
least in the squared error of that module's input (and so nearly that of optimal ablation, Li and Janson 2024). KL is
measured on the reports' passages, one head at a time. Prints a line for every head, then one for all.
"""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks import material
from benchmarks.judge import DATA
from benchmarks.reading import Reading
from benchmarks.rivals import ids_of
from correction.ablation import modified_input
from correction.data.tokenisation import batches
from correction.models import LoadedModel, load

Samples = list[list[int]]


@torch.no_grad()
def means(loaded: LoadedModel, samples: Samples) -> list[Tensor]:
    """Of each layer, the mean over all tokens of what enters `o_proj`: float32 (heads * head_dim,)."""
    sums = [torch.zeros(block.o_proj.in_features, device=loaded.device) for block in loaded.blocks]
    real = torch.empty(0)

    def add(index: int) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            sums[index] += (inputs[0].float() * real[..., None]).sum((0, 1))

        return hook

    hooks = [block.o_proj.register_forward_pre_hook(add(block.index)) for block in loaded.blocks]
    try:
        for _, batch in batches(samples, 2048, loaded.device):
            real = torch.arange(batch.input_ids.shape[1], device=loaded.device) < batch.lengths[:, None]
            loaded.decoder(input_ids=batch.input_ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [each / sum(map(len, samples)) for each in sums]


def replaced(loaded: LoadedModel, layer: int, head: int, value: Tensor) -> AbstractContextManager[None]:
    """Within the block this head feeds `o_proj` this value at every token: (head_dim,)."""
    width = loaded.base.geometry.head_dim
    part = slice(head * width, (head + 1) * width)
    ready = value.to(loaded.device, loaded.dtype)

    def put(x: Tensor) -> Tensor:
        changed = x.clone()
        changed[..., part] = ready
        return changed

    return modified_input(loaded.blocks[layer].o_proj, put)


def compared(loaded: LoadedModel, reading: Reading, layer: int, head: int, mean: Tensor) -> dict[str, Any]:
    """KL per token with the head at zero and at its mean, in nats."""
    kl = {}
    for name, value in (("zero", torch.zeros_like(mean)), ("mean", mean)):
        with replaced(loaded, layer, head, value):
            change = reading.change()
        kl[name] = float(change.divergence.sum() / change.tokens.sum())
    return {"layer": layer, "head": head, "kl": kl, "ratio": kl["mean"] / kl["zero"], "norm": float(mean.norm())}


def quartiles(values: NDArray[np.float64]) -> list[float]:
    """First quartile, median, third."""
    return [round(float(each), 6) for each in np.quantile(values, (0.25, 0.5, 0.75))]


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Quartiles of the ratio, of all heads and of the cheaper and the dearer half; how many the mean helps."""
    zero = np.array([row["kl"]["zero"] for row in rows])
    mean = np.array([row["kl"]["mean"] for row in rows])
    cheap = zero <= np.median(zero)
    return {
        "benchmark": "heads_mean",
        "heads": len(rows),
        "ratio": quartiles(mean / zero),
        "ratio_cheap": quartiles((mean / zero)[cheap]),
        "ratio_dear": quartiles((mean / zero)[~cheap]) if not cheap.all() else None,
        "ratio_of_sums": round(float(mean.sum() / zero.sum()), 4),
        "better": int((mean < zero).sum()),
        "kl_zero": quartiles(zero),
        "kl_mean": quartiles(mean),
    }


def main(
    model: Annotated[str, typer.Argument(help="Folder or hub id.")],
    data: Annotated[Path, typer.Option(help="Folder of the public data.", envvar="EXCISE_DATA")] = DATA,
    heads: Annotated[int, typer.Option(help="How many to try.")] = 60,
    fit: Annotated[int, typer.Option(help="Passages to take means over.")] = 60,
    passages: Annotated[int, typer.Option(help="Passages to measure KL on.")] = 20,
    tokens: Annotated[int, typer.Option(help="Most tokens of a passage.")] = 160,
    dtype: Annotated[str, typer.Option(help="auto keeps the checkpoint's; float32 is faster on most CPUs.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
) -> None:
    """Compare zero and mean, head by head."""
    loaded = load(model, dtype=dtype)
    texts = material.passages(data)
    averages = means(loaded, ids_of(loaded, [texts[place] for place in material.SEARCH_PASSAGES][:fit], tokens))
    held = ids_of(loaded, [texts[place] for place in material.REPORT_PASSAGES][:passages], tokens)
    reading = Reading(loaded, held)
    shape = loaded.base.geometry
    drawn = np.random.default_rng(seed).permutation(len(loaded.blocks) * shape.heads)[:heads]
    rows = []
    for layer, head in (divmod(int(each), shape.heads) for each in drawn):
        mean = averages[layer][head * shape.head_dim : (head + 1) * shape.head_dim]
        rows.append(compared(loaded, reading, layer, head, mean))
        typer.echo(json.dumps(rows[-1]))
    typer.echo(json.dumps(summary(rows) | {"model": Path(model).name, "tokens": sum(map(len, held))}))


if __name__ == "__main__":
    typer.run(main)
