"""A closed loop of streaming clients over HTTP, and what they measure.

The clients share the processor with the server, so they do as little as they can: aiohttp (there with vLLM), and the
events of a stream are counted, not parsed. vLLM sends one event a token; where the server lags behind its engine an
event can carry more, so the events of a response are weighed to add up to its tokens, which are known.

Clients do not march in step: the first request of each has another length, from a short one to a whole one. What is
measured is the steady part, from when the last client has finished that first request to when no more are to be sent.
"""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
import uvloop

EVENT = b"data: "


@dataclass(frozen=True)
class Target:
    """What a request asks for."""

    model: str
    mask: str | None = None
    """The header `x-excise-mask` that has to come back; None where the server is not Excise."""


@dataclass(frozen=True)
class Load:
    """What the clients send."""

    clients: int
    requests: int
    """Besides the first of each client."""
    tokens_in: int
    tokens_out: int
    vocabulary: int
    seed: int = 0


@dataclass
class Response:
    """When the events of one response came, by `time.perf_counter`."""

    sent: float
    tokens: int
    arrivals: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Figures:
    """The steady part of a load. Times in milliseconds."""

    tokens_per_second: float
    ttft_p50: float
    ttft_p99: float
    between_tokens_p50: float
    responses: int
    """Those whose time to first token counts."""
    seconds: float
    events_per_token: float
    client_cpu: float
    """Processor time of the clients over the seconds."""


def prompt(load: Load, number: int) -> list[int]:
    """Token ids of one prompt, without the special ones; another number or seed, another prompt."""
    return np.random.default_rng((load.seed, number)).integers(3, load.vocabulary, load.tokens_in).tolist()


def session(clients: int) -> aiohttp.ClientSession:
    """A session with a connection for each client."""
    limit = aiohttp.ClientTimeout(total=None, sock_read=300)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=clients + 1), timeout=limit)


async def stream(http: aiohttp.ClientSession, url: str, target: Target, ids: list[int], tokens: int) -> Response:
    """One request: `tokens` tokens, greedy, streamed. Raises `RuntimeError` for any answer but a whole one."""
    body: dict[str, Any] = {"model": target.model, "prompt": ids, "max_tokens": tokens, "temperature": 0}
    body |= {"stream": True, "ignore_eos": True}
    response, tail, text = Response(time.perf_counter(), tokens), b"", bytearray()
    async with http.post(f"{url}/v1/completions", json=body) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{target.model} answered {answer.status}: {(await answer.text())[:500]}")
        if (mask := answer.headers.get("x-excise-mask")) != target.mask:
            raise RuntimeError(f"{target.model} was answered by {mask}, not {target.mask}")
        async for data in answer.content.iter_any():
            now, window = time.perf_counter(), tail + data
            response.arrivals += [now] * window.count(EVENT)
            tail = window[1 - len(EVENT) :]
            text = (text + data)[-500:]
    if not text.rstrip().endswith(b"[DONE]") or b'"error"' in text:
        raise RuntimeError(f"{target.model} broke off: {text.decode(errors='replace')}")
    response.arrivals.pop()  # [DONE]
    return response


def figures(responses: Sequence[Response], start: float, end: float, cpu: float) -> Figures:
    """What the time from `start` to `end` shows. `cpu` is the clients' processor time in it, seconds."""
    tokens, waits, gaps = 0.0, [], []
    for response in responses:
        times = np.array(response.arrivals)
        inside = (times >= start) & (times < end)
        tokens += float(inside.sum()) * response.tokens / len(times)
        reads, events = np.unique(times, return_counts=True)  # events that came in one read share the wait for it
        each, within = np.diff(reads) / events[1:], (reads[1:] >= start) & (reads[1:] < end)
        gaps.append(np.repeat(each[within], events[1:][within]))
        if start <= response.sent < end:
            waits.append(times[0] - response.sent)
    p50, p99 = np.percentile(waits, (50, 99)) * 1000
    sent = sum(len(response.arrivals) for response in responses)
    return Figures(
        tokens / (end - start),
        float(p50),
        float(p99),
        float(np.median(np.concatenate(gaps))) * 1000,
        len(waits),
        end - start,
        sent / sum(response.tokens for response in responses),
        cpu / (end - start),
    )


def run(url: str, targets: Sequence[Target], load: Load) -> Figures:
    """Put the server under the load, the requests taking the targets in turn, and measure it."""
    return uvloop.run(_run(url, targets, load))


async def _run(url: str, targets: Sequence[Target], load: Load) -> Figures:
    jobs = iter(range(load.clients, load.clients + load.requests))
    responses: list[Response] = []
    begun: list[tuple[float, float]] = []
    ended: list[tuple[float, float]] = []

    async def client(number: int, http: aiohttp.ClientSession) -> None:
        first = max(1, load.tokens_out * (number + 1) // load.clients)
        for job, tokens in itertools.chain([(number, first)], ((job, load.tokens_out) for job in jobs)):
            target = targets[job % len(targets)]
            responses.append(await stream(http, url, target, prompt(load, job), tokens))
            if job == number:
                begun.append((time.perf_counter(), time.process_time()))
        ended.append((time.perf_counter(), time.process_time()))

    async with session(load.clients) as http, asyncio.TaskGroup() as group:
        for number in range(load.clients):
            group.create_task(client(number, http))
    start, end = begun[-1], ended[0]
    steady = sum(start[0] <= response.sent < end[0] for response in responses)
    if steady < load.clients / 2:
        raise RuntimeError(
            f"{load.requests} requests are too few for {load.clients} clients: only {steady} of them were sent in the "
            f"steady part; ask for {2 * load.clients} or more"
        )
    return figures(responses, start[0], end[0], end[1] - start[1])


async def background(http: aiohttp.ClientSession, url: str, target: Target, load: Load) -> None:
    """Clients that send one request after the other until they are cancelled."""
    numbers = itertools.count()

    async def client() -> None:
        for number in numbers:
            await stream(http, url, target, prompt(load, number), load.tokens_out)

    async with asyncio.TaskGroup() as group:
        for _ in range(load.clients):
            group.create_task(client())
