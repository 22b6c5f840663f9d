"""Time of one gate alone, beside its roofline and the matrix product that follows it; prints one JSON line a size.

    python -m benchmarks.gate [--device cuda] [--dtype bfloat16] [--shape NAME=INPUTSxOUTPUTS …] [--batch 1 2 …]

The gate is the engine's own (`EditedMethod.gate`), with 16 masks and, of the tokens of a batch, a random one for each.
The shapes are those of Llama 3 8B. Tables and matrices take turns, so that none stays in a cache: a model comes back to
a layer only after all the others. The activations do stay, as they do between two operators of a model.

The gate reads rows of its table into a temporary, then reads the activations and that, and writes the activations:
five times the activations' bytes. `roofline_us` is those bytes over the bandwidth of a plain copy, measured on the same
device between buffers that no cache holds; `least_us` the same for what no gate can do without, reading and writing the
activations and reading each row in use once. Where a batch fits a cache, a gate can be faster than either.

On CUDA the calls of a size are one captured graph, timed by events, so that launching from Python does not count, as it
does not in vLLM. Each figure is the median of `--runs` runs over the tables; `share` is the gate over the product.
"""

import argparse
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import torch
from torch import Tensor

from service.engine.gated_layers import Batch, EditedMethod

SHAPES = ("down_proj=14336x4096", "o_proj=4096x4096")
COLD = 256 * 2**20
"""Bytes that take turns: more than caches hold."""
MASKS = 16
BUDGET = 0.3
"""Seconds for a figure on a CPU; one call may take longer."""
REPLAYS = 30
"""Replays for a figure on CUDA."""


def timed(runs: list[Callable[[], object]], device: torch.device) -> float:
    """Median of the seconds of one call, all of the calls in turn."""
    return _timed_graph(runs) if device.type == "cuda" else _timed_calls(runs)


def _timed_calls(runs: list[Callable[[], object]]) -> float:
    """Each call by itself, for `BUDGET` seconds."""
    runs[0]()
    seconds: list[float] = []
    end = time.perf_counter() + BUDGET
    for run in itertools.cycle(runs):
        start = time.perf_counter()
        run()
        now = time.perf_counter()
        seconds.append(now - start)
        if now > end:
            return statistics.median(seconds)
    raise ValueError("no calls")


def _timed_graph(runs: list[Callable[[], object]]) -> float:
    """All calls as one CUDA graph, replayed."""
    for run in runs:
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for run in runs:
            run()
    graph.replay()
    seconds = []
    for _ in range(REPLAYS):
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        graph.replay()
        last.record()
        last.synchronize()
        seconds.append(first.elapsed_time(last) / 1000 / len(runs))
    return statistics.median(seconds)


def bandwidth(device: torch.device) -> float:
    """Bytes a second that a copy reads and writes."""
    source = torch.ones(COLD, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COLD / timed([lambda: target.copy_(source)], device)


def gates(inputs: int, tokens: int, dtype: torch.dtype, device: torch.device) -> tuple[list[EditedMethod], int]:
    """Gates of several layers for one batch, each token under a random mask; and how many masks are in use."""
    random = torch.Generator().manual_seed(tokens)
    batch = Batch(tokens, MASKS, device)
    index = torch.randint(MASKS, (tokens,), generator=random)
    batch.index.copy_(index)
    batch.gated = True
    methods = []
    for _ in range(max(2, min(32, COLD // ((MASKS + 1) * inputs * dtype.itemsize)))):
        method = EditedMethod(None, batch, gated=True, weighted=False)
        method.gates = torch.ones(MASKS + 1, inputs, dtype=dtype, device=device)
        method.gates[:MASKS, torch.randperm(inputs, generator=random)[:6].to(device)] = 0
        methods.append(method)
    return methods, len(index.unique())


def matrices(inputs: int, outputs: int, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Enough matrices to take turns."""
    one = torch.randn(outputs, inputs, device=device).mul_(inputs**-0.5).to(dtype)
    return [one.clone() for _ in range(max(2, -(-COLD // one.nbytes)))]


def measured(matrix: list[Tensor], tokens: int, copied: float) -> dict[str, float]:
    """Gate and product for a batch of `tokens`; microseconds. `copied` is the bandwidth."""
    (_, inputs), dtype, device = matrix[0].shape, matrix[0].dtype, matrix[0].device
    methods, used = gates(inputs, tokens, dtype, device)
    x = torch.randn(tokens, inputs, device=device).to(dtype)
    y = torch.empty(tokens, matrix[0].shape[0], dtype=dtype, device=device)
    gate = timed([lambda method=method: method.gate(x) for method in methods], device)  # type: ignore[misc]
    product = timed([lambda W=W: torch.mm(x, W.T, out=y) for W in matrix], device)  # type: ignore[misc]
    moved, least = 5 * x.nbytes, 2 * x.nbytes + used * inputs * dtype.itemsize
    figures = {"gate_us": gate, "roofline_us": moved / copied, "least_us": least / copied, "product_us": product}
    result = {name: float(f"{seconds * 1e6:.4g}") for name, seconds in figures.items()}
    result["share"] = float(f"{gate / product:.3g}")
    result["of_roofline"] = float(f"{moved / copied / gate:.3g}")
    return result


def main() -> None:
    """Measure every shape and batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--shape", nargs="+", default=SHAPES, metavar="NAME=INPUTSxOUTPUTS")
    parser.add_argument("--batch", nargs="+", type=int, default=[2**n for n in range(10)], help="tokens")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    about = {
        "masks": MASKS,
        "dtype": options.dtype,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": version("torch"),
    }
    with torch.inference_mode():
        copied = bandwidth(device)
        for shape in options.shape:
            name, _, sizes = shape.partition("=")
            inputs, outputs = map(int, sizes.split("x"))
            matrix = matrices(inputs, outputs, getattr(torch, options.dtype), device)
            for tokens in options.batch:
                figures = measured(matrix, tokens, copied)
                size = {"module": name, "inputs": inputs, "outputs": outputs, "batch": tokens}
                line = {"benchmark": "gate", **size, **figures, "copy_GB_per_s": round(copied / 1e9, 2), **about}
                print(json.dumps(line), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
