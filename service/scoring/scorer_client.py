"""One worker process and the thread that talks to it: restarts it, and finds the text that kills it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service import metrics
from service.scoring.circuit_breaker import CircuitBreaker
from service.scoring.response import Marks, Response, Scored
from service.scoring.scorer_worker import Reply
from service.scoring.worker_process import WorkerDiedError, WorkerProcess

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

MOST = 256
"""Responses of a batch: more cost the offline scorer no less each."""
_FIRST = 32
_SHORT, _LONG = 0.25, 1.0
"""Seconds: batches grow while they take less, and shrink where they take longer."""


class ScorerClient:
    """Scores one batch at a time in a process of its own."""

    def __init__(
        self, spec: str, breaker: CircuitBreaker, *, patience: float = 10.0, stuck: float = 60.0, loading: float = 600.0
    ) -> None:
        """Start nothing yet.

        Args:
            spec: names the scorer.
            breaker: clients share it.
            patience: seconds for one call of a scorer that goes over a network.
            stuck: seconds until a worker that does not answer is killed.
            loading: seconds until a worker that loads its scorer is killed.
        """
        self._spec, self._breaker = spec, breaker
        self._patience, self._stuck, self._loading = patience, stuck, loading
        self._thread = ThreadPoolExecutor(1, "excise-scoring")
        self._worker: WorkerProcess | None = None
        self._ready = False
        self._starts = 0
        self._said = ""
        self.most = _FIRST
        """Responses that it wants at a time."""

    @property
    def pid(self) -> int | None:
        """Of the worker process, where there is one."""
        return self._worker.pid if self._worker else None

    async def warm(self) -> None:
        """Start the process and load the scorer, so that the first response need not wait for it."""
        await self.score([])

    async def score(self, batch: Sequence[Response]) -> list[Scored]:
        """Score a batch. Raises nothing: what cannot be scored has no toxicity.

        Where the process dies, the batch is tried once more, each response alone: the one that kills it again goes
        unscored, and no other does.
        """
        if not self._breaker.allows():
            return [Scored(response) for response in batch]
        try:
            return await self._asked(batch)
        except WorkerDiedError as error:
            _log.warning("the scoring process %s; starting another", error)
            self._breaker.failed()
        scores: list[Scored] = []
        for response in batch:
            if not self._breaker.allows():
                break
            try:
                scores += await self._asked([response])
            except WorkerDiedError as error:
                _log.warning("a response of %s goes unscored: the scoring process %s", response.mask, error)
                self._breaker.failed()
                scores.append(Scored(response))
        return scores + [Scored(response) for response in batch[len(scores) :]]

    async def close(self) -> None:
        """End the process, also in the middle of a batch."""
        if self._worker:
            self._worker.kill()
        await self._in_thread(self._forget)  # after the thread's present work, a start included
        self._thread.shutdown()

    async def _asked(self, batch: Sequence[Response]) -> list[Scored]:
        """Ask the worker once.

        Raises:
            WorkerDiedError: the worker process ended.
        """
        if not self._ready:
            reply = await self._reply([], self._loading)
            self._ready = reply.available
            if reply.batch:
                self.most = min(self.most, reply.batch)
            if not reply.available:
                self._breaker.failed()
        if not self._ready or not batch:
            return [Scored(response) for response in batch]
        started = time.perf_counter()
        reply = await self._reply(batch, self._stuck)
        self._fit(len(batch), time.perf_counter() - started, reply.batch)
        if reply.available:
            self._breaker.worked()
        else:
            self._breaker.failed()
        return [
            Scored.of(response, Marks(*marks) if marks else None, reply.threshold)
            for response, marks in zip(batch, reply.marks, strict=True)
        ]

    async def _reply(self, batch: Sequence[Response], limit: float) -> Reply:
        """The worker's reply; it is killed after `limit` seconds.

        Raises:
            WorkerDiedError: the worker process ended.
        """
        timer = asyncio.get_running_loop().call_later(limit, self._end_stuck, limit)
        try:
            reply = await self._in_thread(lambda: self._ask(batch))
        finally:
            timer.cancel()
        if reply.problem and reply.problem != self._said:  # once, not with every batch
            _log.warning("responses go unscored: %s", reply.problem)
        self._said = reply.problem
        return reply

    def _end_stuck(self, limit: float) -> None:
        if self._worker:
            _log.warning("the scoring process did not answer within %g s, and is killed", limit)
            self._worker.kill()

    def _fit(self, size: int, seconds: float, wanted: int | None) -> None:
        """Choose the size of the next batch: as large as is quick."""
        if seconds > _LONG:
            self.most = max(1, size // 2)
        elif seconds < _SHORT and size >= self.most:
            self.most = min(MOST, 2 * self.most)
        self.most = min(self.most, wanted or MOST)

    def _ask(self, batch: Sequence[Response]) -> Reply:
        """In the thread: ask the process, which is started where there is none.

        Raises:
            WorkerDiedError: the worker process ended.
        """
        if self._worker is None:
            try:
                self._worker = WorkerProcess(self._spec, self._patience)
            except Exception as error:  # no memory, no file descriptors, …: the server goes on
                raise WorkerDiedError(f"could not be started: {error!r}") from error
            self._starts += 1
            if self._starts > 1:
                metrics.SCORER_RESTARTS.inc()
        try:
            return self._worker.ask([(response.text, response.tokens) for response in batch])
        except WorkerDiedError:
            self._forget()
            raise

    def _forget(self) -> None:
        """In the thread: end the process, if there is one."""
        worker, self._worker, self._ready = self._worker, None, False
        if worker:
            worker.close()

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
