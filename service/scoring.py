"""Scoring off the request path: a bounded queue, and a worker process that hears toxicity.

The request path only appends to a deque. When the queue is full a response goes unscored and is counted as dropped;
inference is never slowed or failed by scoring.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import dataclass

from behaviours import is_repetitive, load_scorer, response_uniqueness_ratio
from service import lifeline, metrics

_log = logging.getLogger(__name__)
_BATCH = 64
_TRIES = 2

_scorer = None  # one a worker process


@dataclass(frozen=True)
class Response:
    """One finished response of the engine."""

    mask: str
    """Label of the mask that made it: ``base`` or ``name@version``."""
    text: str
    tokens: Sequence[int]


class ScoringQueue:
    """Takes finished responses on the event loop and scores them in a process of its own.

    A worker that dies is started again; a batch that fails twice is counted as dropped.
    """

    def __init__(self, scorer: str, capacity: int) -> None:
        self._name = scorer
        self._capacity = capacity
        self._waiting: deque[Response] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._pool: ProcessPoolExecutor | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start scoring on the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="excise-scoring")

    def put(self, response: Response) -> None:
        """Hand over a response; never blocks. Drops it, counted, if the queue is full."""
        if len(self._waiting) >= self._capacity:
            metrics.DROPPED.inc()
            return
        self._waiting.append(response)
        self._idle.clear()
        metrics.QUEUE_DEPTH.set(len(self._waiting))
        self._arrived.set()

    async def close(self, limit: float = 5.0) -> None:
        """Score what is waiting, for at most ``limit`` seconds, and end the worker; what is left counts as dropped."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), limit)
        metrics.DROPPED.inc(len(self._waiting))
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._pool:
            await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                metrics.QUEUE_DEPTH.set(len(self._waiting))
                await self._score(batch)
            self._idle.set()

    async def _score(self, batch: list[Response]) -> None:
        texts = [response.text for response in batch]
        for attempt in range(_TRIES):
            try:
                if self._pool is None:
                    context = multiprocessing.get_context("spawn")
                    self._pool = ProcessPoolExecutor(1, context, initializer=_start_worker, initargs=(self._name,))
                scores, threshold = await asyncio.wrap_future(self._pool.submit(_score_texts, texts))
                break
            except BrokenExecutor:
                _log.warning("the scoring process died (attempt %d of %d); starting another", attempt + 1, _TRIES)
                self._pool = None
            except Exception:
                _log.exception("scoring %d responses failed", len(batch))
                metrics.DROPPED.inc(len(batch))
                return
        else:
            metrics.DROPPED.inc(len(batch))
            return
        for response, score in zip(batch, scores, strict=True):
            metrics.TOXICITY.labels(response.mask).observe(score)
            metrics.TOXIC.labels(response.mask).inc(score >= threshold)
            if response.tokens:
                metrics.UNIQUENESS.labels(response.mask).observe(response_uniqueness_ratio(response.tokens))
            metrics.REPETITIVE.labels(response.mask).inc(is_repetitive(response.tokens))


def _start_worker(name: str) -> None:
    global _scorer
    lifeline.end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server says when to stop
    os.nice(10)  # inference goes first
    os.environ["OMP_NUM_THREADS"] = "1"
    _scorer = load_scorer(name)


def _score_texts(texts: list[str]) -> tuple[list[float], float]:
    if _scorer is None:
        raise RuntimeError("the scoring process has no scorer")
    return _scorer.score(texts).tolist(), _scorer.threshold
