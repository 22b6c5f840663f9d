"""The end of a server: it takes nothing new, lets what runs finish within a limit, writes down what is known, and ends.

vLLM's own order is the other way round: it ends the engine first, and then waits for connections that nobody answers
any more (vllm/entrypoints/launchers/launcher.py, `handle_shutdown`). So the signals are ours once the server is up.

    signal ─→ no new requests (503) ─→ drain ─→ what still runs is told (503, or an error in its stream) ─→ HTTP server
    ends ─→ responses that wait are scored, outcomes written ─→ engine ends
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from service.engine_protocol import Engine
from service.errors import ServerEndingError, ServiceError

_log = logging.getLogger(__name__)

LEAVE = 3
"""Whole seconds that the HTTP server waits for clients to read their answers; then it hangs up."""
_CUT = 2.0
_CLOSE = 15.0
_AT_ONCE = 5.0
"""Seconds: to tell those whose requests are cut off; to write down outcomes and end the engine; for all of it after a
second signal."""
_LOOK_EVERY = 0.05


class Cuttable(Protocol):
    """A request under way, as far as its end is concerned (`service.api.masked_response.MaskedResponse`)."""

    async def cut(self, error: ServiceError) -> None:
        """Tell the client `error` instead of the rest."""


class Shutdown:
    """Ends one server, in a time that has a bound. Lives on the event loop."""

    def __init__(self, engine: Callable[[], Engine | None], hurry: Callable[[], None], scoring_drain: float) -> None:
        """The server runs.

        Args:
            engine: the engine, once it is up.
            hurry: has scoring wait for nothing.
            scoring_drain: seconds that scoring waits otherwise.
        """
        self._engine, self._hurry, self._scoring_drain = engine, hurry, scoring_drain
        self._running: set[Cuttable] = set()
        self._signals = 0
        self._task: asyncio.Task[None] | None = None
        self._last: threading.Timer | None = None
        self.drain = 0.0
        """Seconds that running requests have to finish."""

    @property
    def begun(self) -> bool:
        """Whether this server is shutting down: what fails now fails by no fault of a mask."""
        return self._signals > 0

    @property
    def hurried(self) -> bool:
        """Whether it was signalled twice: nothing is waited for."""
        return self._signals > 1

    def check(self) -> None:
        """Raise `ServerEndingError` once the end has begun."""
        if self.begun:
            raise ServerEndingError()

    @contextlib.contextmanager
    def awaited(self, answer: Cuttable) -> Iterator[None]:
        """A request for whose end the server's waits.

        Raises:
            ServerEndingError: the server is ending.
        """
        self.check()
        self._running.add(answer)
        try:
            yield
        finally:
            self._running.discard(answer)

    def listen(self, stop: Callable[[], None]) -> None:
        """From now on, end at SIGTERM and SIGINT. `stop` has the HTTP server end; it is called once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.tell, stop)

    def tell(self, stop: Callable[[], None]) -> None:
        """What a signal does: the first one drains, the second ends at once, the third kills."""
        self._signals += 1
        if self._signals == 1:
            _log.warning("told to end: %d requests have %g s to finish", len(self._running), self.drain)
            if engine := self._engine():
                engine.expect_end()
            self._limit(self.drain + _CUT + LEAVE + self._scoring_drain + _CLOSE)
            self._task = asyncio.create_task(self._end(stop), name="excise-ending")
        elif self._signals == 2:
            _log.warning("told to end again: it ends at once")
            self._hurry()
            if engine := self._engine():
                engine.expect_end(at_once=True)
            self._limit(_AT_ONCE)
        else:
            os._exit(1)

    def _limit(self, seconds: float) -> None:
        if self._last:
            self._last.cancel()
        self._last = threading.Timer(seconds, _give_up, (seconds,))
        self._last.daemon = True
        self._last.start()

    async def _end(self, stop: Callable[[], None]) -> None:
        try:
            await self._until(lambda: not self._running or self.hurried or self._engine_died(), self.drain)
            if self._running:
                await self._cut()
        except Exception:
            _log.exception("requests could not be ended well")
        finally:
            stop()

    def _engine_died(self) -> bool:
        engine = self._engine()
        return engine is not None and engine.dead

    async def _cut(self) -> None:
        """Send the error to all that wait. Their answers are then complete, so vLLM drops what it does for them."""
        _log.warning("%d requests are cut off", len(self._running))
        tasks = [asyncio.create_task(answer.cut(ServerEndingError())) for answer in self._running]
        _, late = await asyncio.wait(tasks, timeout=_CUT)
        for task in late:  # of a client that does not read
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                _log.warning("a request could not be ended well: %r", result)

    @staticmethod
    async def _until(done: Callable[[], bool], seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not done():
                    await asyncio.sleep(_LOOK_EVERY)


def _give_up(seconds: float) -> None:
    """In a thread of its own: the event loop may be what hangs."""
    _log.error("the server has not ended within %g s; it is killed", seconds)
    os._exit(1)
