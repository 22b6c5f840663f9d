"""A process that must not outlive the one that started it, even when that one is killed outright."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this process as soon as its parent has ended. Does nothing in one that ``multiprocessing`` did not start.

    A server killed by SIGKILL cannot tell its engine and scorer to stop; on a GPU they would keep its memory.
    """
    if multiprocessing.parent_process() is not None:
        threading.Thread(target=_wait, name="excise-lifeline", daemon=True).start()


def _wait() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
