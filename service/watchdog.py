"""Processes that must not outlive each other: engine and scorer the server, the server its engine."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable

_LOOK_EVERY = 0.5
_LAST_WORDS = 2.0
_LAST_LIMIT = 7.0
"""Seconds: between two looks at the engine; in which requests still get the error that it has died; until the process
ends, even with clients connected."""


def end_with_parent() -> None:
    """End this process as soon as its parent has ended. Does nothing in one that `multiprocessing` did not start.

    A server killed by SIGKILL cannot tell its engine and scorer to stop; on a GPU they would keep its memory. Ctrl-C
    reaches them too, but it is for the server to say when they end.
    """
    if multiprocessing.parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_wait, name="excise-lifeline", daemon=True).start()


def _wait() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


async def end_with(engine_died: Callable[[], bool]) -> None:
    """End this server soon after its engine, so that a supervisor starts both again; its clients get an error first."""
    while not engine_died():
        await asyncio.sleep(_LOOK_EVERY)
    logging.getLogger(__name__).error("the engine has died; the server ends")
    last = threading.Timer(_LAST_LIMIT, os._exit, (1,))  # a client that does not hang up must not keep it alive
    last.daemon = True
    last.start()
    await asyncio.sleep(_LAST_WORDS)
    os.kill(os.getpid(), signal.SIGTERM)
