"""A worker process as its parent sees it. Blocking: its methods are for a thread, `kill` excepted."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
from collections.abc import Sequence
from multiprocessing.connection import wait

from service.scoring import scorer_worker
from service.scoring.scorer_worker import Item, Reply


class WorkerDiedError(RuntimeError):
    """A worker process ended, by itself or by a signal."""


class WorkerProcess:
    """One process that scores, started by making this.

    It is not a `ProcessPoolExecutor`, which cannot end a worker that is stuck.
    """

    def __init__(self, spec: str, patience: float) -> None:
        """Start nothing yet.

        Args:
            spec: names the scorer.
            patience: seconds for one call of a scorer that goes over a network.
        """
        context = multiprocessing.get_context("spawn")  # a fork would copy the server's threads' locks
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=scorer_worker.run, args=(theirs, spec, patience), name="excise-scorer", daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid or 0

    def ask(self, items: Sequence[Item]) -> Reply:
        """Have a batch scored, however long it takes.

        Raises:
            WorkerDiedError: the process ended, or was killed meanwhile.
        """
        try:
            self._connection.send_bytes(pickle.dumps(list(items), pickle.HIGHEST_PROTOCOL))
            # The process is watched too: a child of this one may have inherited the other end of the connection.
            wait([self._connection, self._process.sentinel])
            if self._connection.poll():
                reply: Reply = pickle.loads(self._connection.recv_bytes())  # noqa: S301 - our own process wrote it
                return reply
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise WorkerDiedError(f"ended: {error!r}") from error
        raise WorkerDiedError("ended")

    def kill(self) -> None:
        """End it at once; `ask`, where a thread waits in it, raises."""
        with contextlib.suppress(ValueError):  # closed already
            self._process.kill()

    def close(self) -> None:
        """End it at once and forget it."""
        self._process.kill()
        self._process.join()
        self._connection.close()
        self._process.close()
