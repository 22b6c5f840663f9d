"""A server for the demo: `excise serve` in a process of its own, and nothing left of it afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

BY_HAND = "http://127.0.0.1:8000"
"""Where the server listens that a reader starts by hand."""


def free_port() -> int:
    """A port of 127.0.0.1 that is free, and that the system gives to nobody by itself.

    A server may take a minute until it listens. Systems hand out ports from 32,768 (Linux) or 49,152 on.
    """
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def print_by_hand(console: Console, model: Path, store: Path, *calls: str) -> None:
    """Print how to start the server by hand, at `BY_HAND`, and what to ask it then."""
    command, *places = (shlex.quote(str(path)) for path in (Path(sys.executable).with_name("excise"), model, store))
    lines = [
        "\nTry it by hand. In one terminal, then in another:\n",
        f"{command} serve --model {places[0]} --store {places[1]} "
        "--served-model-name demo --admin-key secret --enforce-eager --port 8000",
        "",
        *calls,
        f"\nThe same in a browser, with the key “secret”: {BY_HAND}/console",
    ]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


class ServerError(RuntimeError):
    """The server did not start; the message holds the end of its log."""


@dataclass(frozen=True)
class Server:
    """A server that was started."""

    url: str
    admin_key: str
    """For its changing calls; also good for all others."""
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self, limit: float = 600.0) -> Server:
        """Until it is ready. Raises `ServerError`."""
        deadline = time.monotonic() + limit
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/ready", timeout=5).status_code == 200:
                    return self
            time.sleep(0.3)
        end = self.log.read_text(errors="replace")[-2000:]
        raise ServerError(f"the server did not get ready; the end of {self.log}:\n{end}")


@contextlib.contextmanager
def serve(model: Path, store: Path, log: Path, dtype: str = "auto") -> Iterator[Server]:
    """Start the server on a free port of 127.0.0.1; it ends with the block. It takes a minute: `wait` for it."""
    port, key = free_port(), secrets.token_urlsafe(16)
    command = [sys.executable, "-m", "excise", "serve", "--model", str(model), "--store", str(store)]
    command += ["--served-model-name", "demo", "--port", str(port), "--dtype", dtype]
    command += ["--enforce-eager", "--max-model-len", "512"]
    environment = {**os.environ, "EXCISE_ADMIN_KEYS": key, "EXCISE_COHERENCE_RATE": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield Server(f"http://127.0.0.1:{port}", key, process, log)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):  # then it is ended below
            process.wait(60)
    finally:
        with contextlib.suppress(ProcessLookupError):  # whatever is left of its process group
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
