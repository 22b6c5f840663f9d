"""Fifty thousand requests against `excise serve` on the demo's model: does anything grow? Prints a table and JSON.

    python -m benchmarks.soak [--requests 50000] [--clients 64] [--out FILE]

The default route leads to an A/B experiment by users, with a mirrored variant and a guardrail. Clients ask for 1 to 4
tokens: whole answers, streams, several choices, a mask by its alias, nonsense; and some go away, in the middle of a
stream or before the first token. Meanwhile an operator registers masks, asks for them, deletes them, moves aliases and
the route, changes weights, pauses, and reads reports, lists and metrics.

Figures are sampled under load, and *at rest*: after each quarter of the requests, once all is answered, scored and
written, and only the mask that an alias names is left. A figure under load grows if it is larger in the last quarter
than in the second by more than its bound and if its slope is over zero (Theil-Sen, 95%); one at rest, if it is larger
at the end than at half time by more than its bound. The database is not judged: outcomes (by minute) and the audit are
there to stay.
"""

import argparse
import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import numpy as np
import uvloop
from rich.console import Console
from rich.table import Table
from scipy.stats import theilslopes

from benchmarks import census
from benchmarks.crowd import Clients, Operator
from benchmarks.servers import Server, end_on_termination, running

MODEL = Path(__file__).resolve().parents[1] / "demo" / "model"
QUARTERS = 4
BOUNDS = {"rss": 0.02, "files": 3, "threads": 2, "tasks": 3, "series": 0, "objects": 0.03}
"""Last word of a figure's name → by how much it may differ and still be the same: below 1 a part, else absolute.
Of objects, each of five connections to SQLite keeps up to two hundred weak references to cursors that are gone."""
LEAST = {"rss": 8.0}
"""That much at least, whatever the part: what an allocator gives and takes anyway, MiB."""
QUIET = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "excise_scoring_queue_depth",
    "excise_outcomes_waiting",
)
"""Metrics that are 0 at rest."""
FEW_KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8", "LRU_CACHE_CAPACITY": "8"}
"""On a CPU, PyTorch keeps the kernels of a thousand shapes, and batches have ever new ones: some 500 MiB in the end."""
LONGEST_REST = 120.0
"""Seconds."""

Sample = dict[str, float]


class Soak:
    """One server under load, and what was seen of it."""

    def __init__(self, http: aiohttp.ClientSession, server: Server, store: Path) -> None:
        self._http, self._server, self._store = http, server, store
        self.clients = Clients(http, server.url)
        self.operator = Operator(http, server.url, MODEL)
        self.loaded: list[tuple[int, Sample]] = []
        """Requests done, and the figures then."""
        self.rested: list[Sample] = []
        self.series: list[Counter[str]] = []
        self.objects: list[dict[str, int]] = []
        self.tasks: list[dict[str, int]] = []

    async def run(self, requests: int, clients: int, every: float, pause: float) -> float:
        """The whole load; returns the seconds that it took, without the rests."""
        await self.operator.begin()
        spent = 0.0
        for quarter in range(QUARTERS):
            began = time.perf_counter()
            jobs = iter(range(requests * quarter // QUARTERS, requests * (quarter + 1) // QUARTERS))
            beside = [asyncio.create_task(self._watch(every)), asyncio.create_task(self.operator.work(pause))]
            await self.clients.run(jobs, clients)
            spent += time.perf_counter() - began
            for task in beside:
                if task.done():
                    task.result()  # raises: what should have gone on did not
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self._rest()
        return spent

    async def _watch(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            self.loaded.append((self.clients.done, await self._sample()))

    async def _sample(self, *, objects: bool = False) -> Sample:
        sample = await asyncio.to_thread(census.held, self._server, self._store)
        counts = await census.told(self._http, self._server, objects=objects)
        sample["api tasks"] = sum(counts["tasks"].values())
        sample["api series"] = (await census.metrics(self._http, self._server))[1].total()
        if objects:
            sample["api objects"] = sum(counts["objects"].values())
            self.objects.append(counts["objects"])
            self.tasks.append(counts["tasks"])
        return sample

    async def _rest(self) -> None:
        """Wait until nothing is under way, leave one mask, and look."""
        await self.operator.register()  # the alias names one that is used
        await self.operator.tidy(1)
        deadline = time.monotonic() + LONGEST_REST
        while True:
            seen, _ = await census.metrics(self._http, self._server)
            if not any(seen[name] for name in QUIET):
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"no rest: { ({name: seen[name] for name in QUIET}) }")
            await asyncio.sleep(0.5)
        await asyncio.sleep(3)  # connections that were left are closed
        self.rested.append(await self._sample(objects=True))
        self.series.append((await census.metrics(self._http, self._server))[1])

    def grown(self, most: int = 8) -> dict[str, int]:
        """Types of which there are more objects at the end than at half time."""
        before, after = self.objects[QUARTERS // 2 - 1], self.objects[-1]
        more = {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}
        return dict(sorted(more.items(), key=lambda pair: -pair[1])[:most])


def allowed(name: str, value: float) -> float:
    """By how much a figure of this value may grow."""
    kind = name.rpartition(" ")[2]
    bound = BOUNDS.get(kind, float("inf"))
    return max(bound * value, LEAST.get(kind, 0.0)) if bound < 1 else bound


def under_load(name: str, samples: Sequence[tuple[int, Sample]], requests: int) -> dict[str, Any]:
    """Medians of the second and the last quarter, and the slope from the second on, for `requests` more."""
    seen = [(done, sample[name]) for done, sample in samples if name in sample]
    x, y = np.array(seen).T
    if len(set((4 * x // requests).tolist()) & {1, 2, 3}) < 3:
        raise RuntimeError("a quarter of the requests has no sample; make --every shorter, or --requests more")
    second, last = (float(np.median(y[4 * x // requests == quarter])) for quarter in (1, 3))
    late = 4 * x >= requests
    slope, _, low, high = (float(each) * requests for each in theilslopes(y[late], x[late]))
    grows = last - second > allowed(name, second) and low > 0
    return {"second": second, "last": last, "slope": slope, "slope_95": [low, high], "grows": grows}


def at_rest(name: str, rested: Sequence[Sample]) -> dict[str, Any]:
    """After each quarter, and whether it grew in the second half."""
    values = [sample.get(name, 0.0) for sample in rested]
    before, after = values[QUARTERS // 2 - 1], values[-1]
    return {"quarters": values, "grows": after - before > allowed(name, before)}


def judged(soak: Soak, requests: int) -> dict[str, Any]:
    """Every figure, under load and at rest."""
    names = list(soak.rested[-1])
    busy = [name for name in names if name not in ("api tasks", "api series", "api files", "api objects")]
    return {
        "under_load": {name: under_load(name, soak.loaded, requests) for name in busy},
        "at_rest": {name: at_rest(name, soak.rested) for name in names},
    }


def show(found: dict[str, Any]) -> None:
    """A table on standard error."""
    table = Table("figure", "2nd quarter", "last", "slope", "at rest", "", title=f"{found['requests']} requests")
    for name, rest in found["at_rest"].items():
        busy = found["under_load"].get(name)
        cells = [f"{busy[key]:.1f}" for key in ("second", "last", "slope")] if busy else [""] * 3
        grows = rest["grows"] or (busy and busy["grows"])
        table.add_row(name, *cells, "  ".join(f"{value:.1f}" for value in rest["quarters"]), "grows" if grows else "")
    Console(stderr=True, width=120).print(table)


async def measure(server: Server, store: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Soak it."""
    # The server closes a connection that rested for 5 s; one that it is about to close must not be used.
    connector = aiohttp.TCPConnector(limit=options.clients + 8, keepalive_timeout=1)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=600)) as http:
        soak = Soak(http, server, store)
        seconds = await soak.run(options.requests, options.clients, options.every, options.pause)
    figures = judged(soak, options.requests)
    verdicts = [figure["grows"] for part in figures.values() for figure in part.values()]
    wrong = soak.clients.wrong + soak.operator.wrong
    return {
        "requests": options.requests,
        "clients": options.clients,
        "seconds": round(seconds, 1),
        "kinds": soak.clients.kinds,
        "operator_calls": soak.operator.calls,
        "samples": len(soak.loaded),
        "wrong": dict(wrong.most_common(10)),
        "nothing_grows": not any(verdicts),
        **figures,
        "more_series": dict((soak.series[-1] - soak.series[QUARTERS // 2 - 1]).most_common(30)),
        "more_objects": soak.grown(),
        "tasks_at_rest": soak.tasks[-1],
    }


def main() -> None:
    """Start the server, soak it, say what grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two samples")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two things that the operator does")
    parser.add_argument("--out", type=Path, help="file that the line is added to as well")
    options = parser.parse_args()
    end_on_termination()
    os.environ |= FEW_KERNELS
    vllm = ["--dtype", "float32", "--max-model-len", "256", "--enforce-eager", "--middleware", census.MIDDLEWARE]
    # A small cache, so that all of its pages have been touched, and are resident, after the first quarter.
    vllm += ["--num-gpu-blocks-override", "128", "--disable-uvicorn-access-log"]
    with TemporaryDirectory() as name:
        folder = Path(name) / "server"
        with running(MODEL, folder, "--scorer", "profanity", *vllm) as server:
            result = uvloop.run(measure(server, folder / "store", options))
            logged = [line for line in server.log.read_text(errors="replace").splitlines() if "ERROR" in line]
    show(result)
    line = json.dumps({"benchmark": "soak", **result, "errors_logged": len(logged), "cores": os.cpu_count()})
    print(line, flush=True)  # noqa: T201
    if options.out:
        with options.out.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
