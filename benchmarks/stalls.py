"""How long each call of an operator stops the event loop, with 10,000 masks registered; prints one JSON line a call.

    python -m benchmarks.stalls [--masks N] [--rounds N] [--only WORD] [--out FILE]

vLLM's own application with ours plugged in, built as the server builds it and called in this process, without an
engine: what stands for it says that every mask is resident. Only the masks' records are there, half of them alone under
their name and half of them versions of one name with 200 aliases; beside them 100 experiments, 1,000 entries of the
audit, 1,000 flagged responses and 1,000 masks with counted responses. Every stream stands still while the loop does.

`stall` is the longest of all rounds, in milliseconds, by which a tick of one millisecond came too late,
`median` that of the middle round, `wall` the longest that the call took. The first line is the loop with no call.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop
from fastapi import FastAPI

import masks
from benchmarks.random_llama import random_mask
from benchmarks.records import VERSIONS, furnish, large
from benchmarks.replica import MODEL, NAME, call, replica, stalls, started
from service import bootstrap, metrics
from service.engine import server

LIMIT = 50.0
"""Milliseconds that were promised."""

Call = Callable[[int], Awaitable[object]]


def application(folder: Path) -> FastAPI:
    """The application of vLLM with the gateway in front, and the metrics of masks that have answered."""
    from vllm.entrypoints.launchers.app import build_app

    launch = server.prepare(str(MODEL), ["--served-model-name", NAME])
    service = bootstrap._current = replica(folder)
    for label in list(service.labels._known):
        for metric in (metrics.TOXICITY, metrics.UNIQUENESS, metrics.SECONDS):
            metric.labels(label).observe(0.5)
    app = build_app(server.configured(launch, service.settings, mask=None, gated=True), ("generate",))
    app.state.log_stats = False
    return app


def calls(app: FastAPI, folder: Path, rounds: int) -> dict[str, Call]:
    """Each call by what it is; the argument is the number of the round."""
    other, great = replica(folder), large()
    added = [masks.dumps(random_mask(MODEL, "added", 10**6 + number)) for number in range(2 * rounds)]

    def ask(
        method: str, path: str, body: Callable[[int], object] | object = b"", query: str = "", fits: int = 200
    ) -> Call:
        async def one(number: int) -> None:
            said = body(number) if callable(body) else body
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            status, answer = await call(app, method, path.replace("{n}", str(number + 1)), data, query)
            if status != fits:
                raise RuntimeError(f"{method} {path} answered {status}: {answer[:500]!r}")

        return one

    async def elsewhere(number: int) -> None:
        await asyncio.to_thread(other.registry.register, added[rounds + number])
        await bootstrap.current().follow()

    aliases, report, many = f"/masks/{VERSIONS}/aliases", "/experiments/split-1/report", "limit=1000"
    return {
        "nothing": lambda _: asyncio.sleep(0.3),
        "GET /openapi.json": ask("GET", "/openapi.json"),
        "GET /metrics": ask("GET", "/metrics"),
        "HEAD /metrics": ask("HEAD", "/metrics"),
        "GET /metrics/": ask("GET", "/metrics/"),
        "GET /v1/models": ask("GET", "/v1/models"),
        "GET /v1/models/{model}": ask("GET", f"/v1/models/{NAME}:{VERSIONS}@17"),
        "GET /masks": ask("GET", "/masks", query=many),
        "GET /masks/{name}": ask("GET", f"/masks/{VERSIONS}", query=many),
        "GET /masks/{name}/{version}": ask("GET", f"/masks/{VERSIONS}/17"),
        "GET aliases": ask("GET", aliases, query=many),
        "GET /audit": ask("GET", "/audit", query=many),
        "GET /flagged": ask("GET", "/flagged", query=many),
        "GET /experiments": ask("GET", "/experiments", query=many),
        "GET report": ask("GET", report),
        "GET report, html": ask("GET", report, query="format=html"),
        "POST /masks": ask("POST", "/masks", lambda number: added[number], "", 201),
        "POST /masks, 64 MiB": ask("POST", "/masks", great, "", 409),
        "a mask elsewhere": elsewhere,
        "PUT alias": ask("PUT", f"{aliases}/live", lambda number: {"version": number + 1}),
        "PUT /route": ask("PUT", "/route", lambda number: {"target": f"{VERSIONS}@{number + 1}"}),
        "POST /route/rollback": ask("POST", "/route/rollback"),
        "DELETE /masks/{name}/{version}": ask("DELETE", "/masks/added/{n}", fits=204),
        "a mask that is not there": ask("POST", "/v1/completions", {"model": f"{NAME}:no", "prompt": "x"}, "", 404),
    }


async def measured(one: Call, rounds: int) -> dict[str, Any]:
    """The stalls of one call."""
    longest, walls = [], []
    for number in range(rounds):
        late: list[float] = []
        began = time.perf_counter()
        async with stalls(late):
            await asyncio.sleep(0.01)
            await one(number)
            walls.append(1000 * (time.perf_counter() - began) - 10)
        longest.append(max(late))
    figures = {"stall": max(longest), "median": statistics.median(longest), "wall": max(walls)}
    return {name: round(value, 1) for name, value in figures.items()} | {"kept": max(longest) <= LIMIT}


async def run(options: argparse.Namespace, folder: Path) -> None:
    """Furnish, call and print."""
    furnish(folder, options.masks)
    app = application(folder)
    life = await started(app)
    for name, one in calls(app, folder, options.rounds).items():
        if options.only in name:
            row = {"benchmark": "stalls", "call": name, **await measured(one, options.rounds), "masks": options.masks}
            print(json.dumps(row), flush=True)  # noqa: T201
            if options.out:
                with options.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    life.cancel()


def main() -> None:
    """Run every call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", default="", help="of the call's name")
    parser.add_argument("--out", type=Path, help="file that the lines are added to as well")
    with TemporaryDirectory() as folder:
        uvloop.run(run(parser.parse_args(), Path(folder)))


if __name__ == "__main__":
    main()
