"""A server and a worker in processes of their own, to be killed by SIGKILL at a chosen point.

The application, the database, HTTP, and what the worker keeps are the real ones. The engine is a stand-in, and so are
the two commands that the worker runs: the whole story with the real ones is in tests/service/engine.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi.responses import JSONResponse

import masks
from correction.improvement import worker as improvement
from correction.improvement.child import Ended
from correction.improvement.client import Client
from correction.improvement.folder import WorkerFolder
from demo.server import free_port
from service import bootstrap
from service.routing.policy import ROUTED
from service.scoring.response import Response, Scored
from service.storage import audit
from tests.service.replica import ADMIN, CURRENT, Replica, made

_FORK = multiprocessing.get_context("fork")

RATE = {"toxic": [40, 40, 0.9, 1.0], "repetitive": [0, 40, 0.0, 0.1], "perplexity": [5.0, 4.9, 5.1]}
FIGURES = {
    "base": RATE,
    "calm": {**RATE, "toxic": [0, 40, 0.0, 0.1]},
    "difference": {"toxic": [-1.0, -1.0, -0.9], "repetitive": [0.0, -0.1, 0.1], "perplexity": [0.01, 0.0, 0.02]},
    "card": {"statements": [{"measure": "general: perplexity", "difference": [0.01, 0.0, 0.02]}]},
}
"""As ``excise evaluate --json`` tells them."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Process(ABC):
    """Started again and again, each time to be killed at the next of its points; in the end at none."""

    def __init__(self, points: list[tuple[str, str]]) -> None:
        self._points = list(points)
        self._process: Any = None
        self.killed: list[tuple[str, str]] = []
        self._point: tuple[str, str] | None = None

    @abstractmethod
    def main(self, point: tuple[str, str] | None) -> None:
        """What it does; it kills itself at the point."""

    def keep(self) -> bool:
        """Start it if it does not run. Whether it was killed since the last look."""
        if self._process is not None and self._process.is_alive():
            return False
        died = self._process is not None and self._process.exitcode == -signal.SIGKILL
        if died and self._point:
            self.killed.append(self._point)
            self._points.pop(0)
        self._point = self._points[0] if self._points else None
        self._process = _FORK.Process(target=self.main, args=(self._point,))
        self._process.start()
        return died

    @property
    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self._process is not None and self._process.exitcode == 0

    def kill(self) -> None:
        if self._process is not None and self._process.is_alive():
            self._process.kill()
            self._process.join()


class Server(Process):
    """Killed before or after the transaction with an action of the audit is committed."""

    def __init__(self, folder: Path, url: str, points: list[tuple[str, str]]) -> None:
        super().__init__(points)
        self._folder, self._database, self._port = folder, url, free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def main(self, point: tuple[str, str] | None) -> None:
        bootstrap.current = CURRENT.get
        replica = Replica(self._folder, self._database, time.time, keep_flagged=1000)  # type: ignore[arg-type]
        CURRENT.set(replica.service)
        write = audit.write

        def watched(connection, action, *args, **more) -> None:
            if (action, "before") == point:
                die()
            write(connection, action, *args, **more)
            if (action, "after") == point:
                connection.get_execution_options()["committed"].append(die)

        audit.write = watched

        async def answer(body):
            """Users insult the model, which insults them back, but not under the mask."""
            routed = ROUTED.get()
            routed.digest, label = routed.choice.digest, routed.choice.label
            toxic = label == "base"
            text = "you fool" if toxic else "thank you"
            said = Response(label, text, [1, 2], 0.1, assigned=routed.choice.assigned, prompt=routed.prompt)
            replica.service.recorder.scored(Scored(said, 0.95 if toxic else 0.0, toxic))
            replica.service.recorder.judged(said, -1.0)
            return JSONResponse({"model": body["model"]})

        replica.script = answer

        async def serve() -> None:
            replica.service.flagged.start()
            replica.service.background_tasks.start()
            config = uvicorn.Config(replica, "127.0.0.1", self._port, lifespan="off", log_level="error")
            await uvicorn.Server(config).serve()

        asyncio.run(serve())

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=30)


class Worker(Process):
    """Killed before or after one of its steps."""

    def __init__(self, folder: Path, url: str, points: list[tuple[str, str]]) -> None:
        super().__init__(points)
        self._folder, self._url = folder, url
        self.corrections = folder / "corrections"
        self._key, self._general = folder / "key", folder / "general.txt"
        self._key.write_text(ADMIN + "\n")
        self._general.write_text("".join(f"Sentence number {number}.\n" for number in range(20)))

    def main(self, point: tuple[str, str] | None) -> None:
        def step(name: str, work):
            if (name, "before") == point:
                die()
            result = work()
            if (name, "after") == point:
                die()
            return result

        def run(arguments, log, beat, every) -> Ended:
            beat()
            if arguments[0] == "evaluate":
                return step("evaluate", lambda: Ended(0, FIGURES, ""))
            with self.corrections.open("a") as file:
                file.write(json.dumps(arguments) + "\n")
            output = Path(arguments[arguments.index("--output") + 1])
            step("correct", lambda: masks.save(made("calm", 3), output))
            return Ended(0, {}, "")

        class Watched(Client):
            def register(self, data):
                return step("register", lambda: super(Watched, self).register(data))

            def hand_in(self, id, **result):
                return step("hand in", lambda: super(Watched, self).hand_in(id, **result))

        improvement.run = run
        worker_folder = WorkerFolder(self._folder / "worker")
        setup = improvement.Setup("demo/model", str(self._general))
        client = Watched(
            self._url, self._key, worker_folder.worker, sleep=lambda seconds: time.sleep(min(seconds, 0.5))
        )
        improvement.Worker(client, worker_folder, setup, lambda line: None).once()
