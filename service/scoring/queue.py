"""Scoring off the request path: a bounded queue before the worker processes.

The request path only appends to a deque. When the queue is full a response goes unscored and is counted as dropped;
inference is never slowed or failed by scoring.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence

from service import metrics
from service.scoring.circuit_breaker import CircuitBreaker
from service.scoring.response import Response, Scored
from service.scoring.sampling import sampled
from service.scoring.scorer_client import ScorerClient

_log = logging.getLogger(__name__)

_GATHER = 0.1
"""Seconds that a batch waits to fill: the offline scorer takes 3 ms for one response and 0.07 ms each for many."""
_AT_ONCE = 16
"""Responses handed on without a break, so that scoring holds the event loop up for no longer than they take."""
_BATCH_CHARACTERS = 2**19
"""Of a batch of more than one response: what a worker is handed holds the interpreter for a millisecond at most."""
_MOST_CHARACTERS = 2**26
"""Of all that waits: a queue of long responses must not fill the memory."""


class ScoringQueue:
    """Takes finished responses on the event loop and has them scored in processes of their own.

    Every response that is put is handed to `on_scored` exactly once, on the event loop: scored, or without a toxicity
    where it was sampled out, dropped, or the scorer failed. What `on_scored` raises is logged, no more.
    """

    def __init__(
        self,
        scorer: str,
        capacity: int,
        *,
        rate: float = 1.0,
        workers: int = 1,
        on_scored: Callable[[Scored], None] = lambda scored: None,
        drain: float = 5.0,
        breaker: CircuitBreaker | None = None,
        patience: float = 10.0,
        stuck: float = 60.0,
    ) -> None:
        """Start nothing yet.

        Args:
            scorer: its spec, see `behaviours.load_scorer`.
            capacity: responses that may wait; those beyond are dropped.
            rate: part of the units whose responses are scored, 0 to 1; at 0 no process is started.
            workers: processes.
            on_scored: gets every response, see above; it must be quick.
            drain: most seconds that `close` goes on scoring.
            breaker: what keeps a failing scorer from being asked all the time; shared by the workers.
            patience: most seconds that a scorer that asks a server may take for a batch.
            stuck: seconds after which a worker that does not answer is killed and started again.
        """
        self._capacity, self._rate, self._drain, self._on_scored = capacity, rate, drain, on_scored
        breaker = breaker or CircuitBreaker()
        workers = workers if rate > 0 else 0
        self._clients = [ScorerClient(scorer, breaker, patience=patience, stuck=stuck) for _ in range(workers)]
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: deque[Response] = deque()
        self._characters = 0
        self._numbers = itertools.count()
        self._in_work = 0
        self._closing = False
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self) -> None:
        """Start scoring on the running event loop."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run(client), name="excise-scoring") for client in self._clients]

    @property
    def pids(self) -> list[int]:
        """Of the worker processes that run now."""
        return [client.pid for client in self._clients if client.pid]

    def put(self, response: Response) -> None:
        """Hand over a response; never blocks. Drops it, counted, if the queue is full."""
        if self._rate < 1 and not sampled(response.unit or f"#{next(self._numbers)}", self._rate):
            self._hand_on(Scored(response))
            return
        full = len(self._waiting) >= self._capacity or self._characters > _MOST_CHARACTERS
        if full or self._closing:
            self._drop(response)
            return
        self._waiting.append(response)
        self._characters += len(response.text)
        self._idle.clear()
        self._arrived.set()
        metrics.QUEUE_DEPTH.set(len(self._waiting))

    async def close(self, *, drain: bool = True) -> None:
        """Score what is waiting, within the limit, and end the workers; what is left then counts as dropped.

        Args:
            drain: False to leave it at once.
        """
        self._closing = True
        if self._tasks and drain:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), self._drain)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(client.close() for client in self._clients))
        self._tasks, self._clients = [], []
        while self._waiting:
            self._drop(self._waiting.popleft())
        metrics.QUEUE_DEPTH.set(0)

    def hurry(self) -> None:
        """Have `close` wait no longer."""
        self._drain = 0.0
        self._idle.set()

    async def _run(self, client: ScorerClient) -> None:
        try:
            await client.warm()
        except Exception:  # then the first batch finds out
            _log.exception("a scoring process could not be started early")
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            if len(self._waiting) < client.most and not self._closing:
                await asyncio.sleep(_GATHER)
            if batch := self._take(client.most):
                try:
                    await self._score(client, batch)
                except Exception:  # a fault of ours: this batch is lost, and no other
                    _log.exception("scoring %d responses failed", len(batch))

    def _take(self, most: int) -> list[Response]:
        batch: list[Response] = []
        characters = 0
        while self._waiting and len(batch) < most:
            characters += len(self._waiting[0].text)
            if batch and characters > _BATCH_CHARACTERS:
                break
            batch.append(self._waiting.popleft())
            self._characters -= len(batch[-1].text)
        self._in_work += len(batch)
        metrics.QUEUE_DEPTH.set(len(self._waiting))
        return batch

    async def _score(self, client: ScorerClient, batch: Sequence[Response]) -> None:
        done = 0
        try:
            scores = await client.score(batch)
            while done < len(batch):
                part = scores[done : done + _AT_ONCE]
                done += len(part)
                _measure(part)
                for scored in part:
                    self._hand_on(scored)
                await asyncio.sleep(0)
        finally:  # cancelled, where something is left
            for response in batch[done:]:
                self._drop(response)
            self._in_work -= len(batch)
            if not self._in_work and not self._waiting:
                self._idle.set()

    def _drop(self, response: Response) -> None:
        metrics.DROPPED.inc()
        self._hand_on(Scored(response))

    def _hand_on(self, scored: Scored) -> None:
        try:
            self._on_scored(scored)
        except Exception:  # inference must not suffer from it
            _log.exception("a response of %s could not be handed on after scoring", scored.response.mask)


def _measure(found: Sequence[Scored]) -> None:
    """Count responses after scoring."""
    unscored = 0
    for mask in {scored.response.mask for scored in found}:
        scores = [one for one in found if one.response.mask == mask and one.toxicity is not None]
        unscored += sum(one.response.mask == mask for one in found) - len(scores)
        if not scores:
            continue
        metrics.SCORED.labels(mask).inc(len(scores))
        metrics.TOXIC.labels(mask).inc(sum(one.toxic is True for one in scores))
        metrics.REPETITIVE.labels(mask).inc(sum(one.repetitive for one in scores))
        toxicity, uniqueness = metrics.TOXICITY.labels(mask), metrics.UNIQUENESS.labels(mask)
        for one in scores:
            toxicity.observe(one.toxicity or 0.0)
            if one.ratio is not None:
                uniqueness.observe(one.ratio)
    if unscored:
        metrics.DROPPED.inc(unscored)
