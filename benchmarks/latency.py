"""How soon a new mask or a new default route answers, on a resting and on a busy server. Times in milliseconds."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from benchmarks import load
from benchmarks.comparison import spread
from benchmarks.load import Load, Target
from benchmarks.servers import ADMIN, NAME, Server

KEY = {"Authorization": f"Bearer {ADMIN}"}
BASE = Target(f"{NAME}:base", "base")
TOKENS = 2
"""Of a probe's response: only the first is timed."""


def under(mask: str) -> Target:
    """Version 1 of a mask."""
    return Target(f"{NAME}:{mask}@1", f"{mask}@1")


def measure(server: Server, files: Sequence[dict[str, Path]], clients: int, asked: Load) -> dict[str, Any]:
    """New masks and route changes, the server resting and with `clients` clients on the uncorrected model.

    `files` are the masks for each of the two, none of them registered yet. The prompts are of `asked`.
    """
    return uvloop.run(_measure(server, files, clients, asked))


async def _measure(server: Server, files: Sequence[dict[str, Path]], clients: int, asked: Load) -> dict[str, Any]:
    latencies = {}
    async with load.session(clients + 1) as http:
        for _ in range(3):
            await load.stream(http, server.url, BASE, load.prompt(asked, 1_000_000 + _), TOKENS)
        for number, (state, busy) in enumerate({"resting": 0, f"{clients}_clients": clients}.items()):
            probes = Load(1, 0, asked.tokens_in, TOKENS, asked.vocabulary, seed=number)
            crowd = Load(busy, 0, asked.tokens_in, asked.tokens_out, asked.vocabulary, seed=100 + number)
            async with _crowd(http, server, crowd):
                latencies[state] = {
                    "new_mask": await _new_masks(http, server, files[number], probes),
                    "route": await _routes(http, server, list(files[number])[-2:], len(files[number]), probes),
                }
    return latencies


@contextlib.asynccontextmanager
async def _crowd(http: aiohttp.ClientSession, server: Server, asked: Load) -> AsyncIterator[None]:
    """Clients that keep the server busy within the block."""
    if not asked.clients:
        yield
        return
    task = asyncio.create_task(load.background(http, server.url, BASE, asked))
    try:
        await asyncio.sleep(3)
        yield
        if task.done():
            await task  # raises: the server was not busy all the time
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _new_masks(
    http: aiohttp.ClientSession, server: Server, files: dict[str, Path], probes: Load
) -> dict[str, object]:
    """Each mask registered and used at once; then used again, known and in the gates."""
    posts, totals, firsts, again = [], [], [], []
    for number, (name, file) in enumerate(files.items()):
        data = file.read_bytes()
        start = time.perf_counter()
        async with http.post(f"{server.url}/masks", data=data, headers=KEY) as answer:
            if answer.status != 201:
                raise RuntimeError(f"POST /masks answered {answer.status}: {await answer.text()}")
            await answer.read()
        posts.append(1000 * (time.perf_counter() - start))
        ids = [load.prompt(probes, 2 * number + i) for i in range(2)]
        new = await load.stream(http, server.url, under(name), ids[0], TOKENS)
        totals.append(1000 * (new.arrivals[0] - start))
        firsts.append(1000 * (new.arrivals[0] - new.sent))
        known = await load.stream(http, server.url, under(name), ids[1], TOKENS)
        again.append(1000 * (known.arrivals[0] - known.sent))
    return {
        "post_to_first_token": spread(totals),
        "post": spread(posts),
        "first_token": spread(firsts),
        "first_token_known_mask": spread(again),
        "count": len(files),
    }


async def _routes(
    http: aiohttp.ClientSession, server: Server, masks: Sequence[str], count: int, probes: Load
) -> dict[str, object]:
    """The default route set to another target, time after time; the very next request has to be answered under it."""
    puts, firsts = [], []
    targets = ["base", *(f"{mask}@1" for mask in masks)]
    for number in range(count):
        target = targets[(number + 1) % len(targets)]
        start = time.perf_counter()
        async with http.put(f"{server.url}/route", json={"target": target}, headers=KEY) as answer:
            if answer.status != 200:
                raise RuntimeError(f"PUT /route answered {answer.status}: {await answer.text()}")
            await answer.read()
        puts.append(1000 * (time.perf_counter() - start))
        ids = load.prompt(probes, 1_000 + number)
        response = await load.stream(http, server.url, Target(NAME, target), ids, TOKENS)  # raises if another answers
        firsts.append(1000 * (response.arrivals[0] - response.sent))
    return {"put": spread(puts), "first_token": spread(firsts), "next_request_under_new_target": count, "count": count}
