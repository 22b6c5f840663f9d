"""Time and memory of an exact selection among very many scores; prints one JSON line.

    python -m benchmarks.selection [--scores 1e9] [--count 7000] [--matrices 96] [--runs 3] [--scope global]
                                   [--pattern 2:4] [--baseline auto|topk|partition|none]

Random normal scores, made matrix by matrix (4 bytes each), lie in memory throughout. The baseline of the global scope
is `torch.topk` of the concatenated scores, which takes 20 bytes more a score, or where `--memory` does not allow that,
`numpy.argpartition` of each matrix and then of what they gave. The two take turns, and must find the same scores.
Memory is the resident set, sampled every 2 ms: its highest value in a run over its value before. The first run of each
counts: nothing is warmed up.
"""

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from resource import getpagesize
from threading import Event, Thread

import numpy as np
import torch
from numpy.typing import NDArray

from correction.attribution.relevance import Relevance
from correction.selection.top_k import select

Selected = Mapping[str, NDArray[np.int64]]

_COLUMNS = 4096


def random_scores(total: int, matrices: int) -> Relevance:
    """`total` scores, or a few more, in matrices of 4,096 columns, eight to a layer."""
    rows = math.ceil(total / matrices / _COLUMNS)
    random = torch.Generator().manual_seed(0)
    scores = {
        f"weights.model.layers.{n // 8}.matrix{n % 8}.weight": torch.randn(rows, _COLUMNS, generator=random)
        for n in range(matrices)
    }
    return Relevance("weight", scores, 1)


def by_topk(relevance: Relevance, count: int) -> Selected:
    """`torch.topk` of all scores in one tensor."""
    everything = torch.cat([score.flatten() for score in relevance.scores.values()])
    indices = torch.topk(everything, count, largest=False, sorted=False).indices.sort().values.numpy()
    del everything
    selected, start = {}, 0
    for name, score in relevance.scores.items():
        first, last = np.searchsorted(indices, (start, start + score.numel()))
        selected[name] = indices[first:last] - start
        start += score.numel()
    return selected


def by_partition(relevance: Relevance, count: int) -> Selected:
    """The smallest of every matrix, and of these the smallest."""
    indices, values = [], []
    for score in relevance.scores.values():
        flat = score.flatten().numpy()
        best = min(count, flat.size)
        indices.append(np.argpartition(flat, best - 1)[:best].copy())
        values.append(flat[indices[-1]])
    chosen = np.zeros(sum(map(len, values)), np.bool_)
    chosen[np.argpartition(np.concatenate(values), count - 1)[:count]] = True
    parts = np.split(chosen, np.cumsum([len(each) for each in values])[:-1])
    return {name: np.sort(i[part]) for name, i, part in zip(relevance.scores, indices, parts, strict=True)}


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


def measured(run: Callable[[], Selected]) -> tuple[float, int, Selected]:
    """Seconds, bytes of memory at the highest over those before, and what was selected."""
    before = highest = resident()
    done = Event()

    def sample() -> None:
        nonlocal highest
        while not done.wait(0.002):
            highest = max(highest, resident())

    sampler = Thread(target=sample)
    sampler.start()
    start = time.perf_counter()
    selected = run()
    seconds = time.perf_counter() - start
    done.set()
    sampler.join()
    return seconds, max(highest, resident()) - before, selected


def values(relevance: Relevance, selected: Selected) -> NDArray[np.float32]:
    """The scores selected, ascending."""
    return np.sort(np.concatenate([relevance.scores[n].numpy().reshape(-1)[cut] for n, cut in selected.items()]))


def main() -> None:
    """Time the selection and its baseline in turn and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=float, default=1e9)
    for name, default in (("count", 7000), ("matrices", 96), ("runs", 3), ("threads", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--scope", default="global", choices=("global", "layer", "row"))
    parser.add_argument("--pattern", help="N:M, in place of count and scope")
    parser.add_argument("--baseline", default="auto", choices=("auto", "topk", "partition", "none"))
    parser.add_argument("--memory", type=float, default=8.0, help="GiB that the baseline may take, scores and all")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.pattern or options.scope != "global":
        options.baseline = "none"
    elif options.baseline == "auto":
        options.baseline = "topk" if 24 * options.scores < options.memory * 2**30 else "partition"
    relevance = random_scores(int(options.scores), options.matrices)
    asked = {"pattern": options.pattern} if options.pattern else {"count": options.count, "scope": options.scope}
    runs: dict[str, Callable[[], Selected]] = {"select": lambda: select(relevance, **asked)}
    if options.baseline != "none":
        baseline = {"topk": by_topk, "partition": by_partition}[options.baseline]
        runs[options.baseline] = lambda: baseline(relevance, options.count)
    times: dict[str, list[float]] = {name: [] for name in runs}
    memory = dict.fromkeys(runs, 0)
    scores: dict[str, NDArray[np.float32]] = {}
    for _ in range(options.runs):
        for name, run in runs.items():
            seconds, extra, selected = measured(run)
            times[name].append(seconds)
            memory[name] = max(memory[name], extra)
            if options.baseline != "none":
                scores[name] = values(relevance, selected)
            del selected
    result = {
        "benchmark": "selection",
        "seconds": {name: round(statistics.median(each), 3) for name, each in times.items()},
        "slowest": {name: round(max(each), 3) for name, each in times.items()},
        "extra_MiB": {name: round(each / 2**20, 1) for name, each in memory.items()},
        "memory": "resident set sampled every 2 ms, highest of the runs",
        "same_scores": all(np.array_equal(each, scores["select"]) for each in scores.values()) if scores else None,
        "components": len(relevance),
        "settings": vars(options),
        "device": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "numpy": version("numpy"),
        "torch": version("torch"),
    }
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main()
