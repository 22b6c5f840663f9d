"""A server for the demo: `excise serve` in a process of its own, and nothing left of it afterwards."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx


class ServerError(RuntimeError):
    """The server did not start; the message holds the end of its log."""


@dataclass(frozen=True)
class Server:
    """Where it listens, and the key for its changing calls (also good for all others)."""

    url: str
    admin_key: str


@contextlib.contextmanager
def serve(model: Path, store: Path, log: Path, dtype: str = "auto", limit: float = 600.0) -> Iterator[Server]:
    """Run the server on a free port of 127.0.0.1 for the length of the block. Raises `ServerError`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(f"http://127.0.0.1:{port}", secrets.token_urlsafe(16))
    command = [sys.executable, "-m", "excise", "serve", "--model", str(model), "--store", str(store)]
    command += ["--served-model-name", "demo", "--port", str(port), "--dtype", dtype]
    command += ["--enforce-eager", "--max-model-len", "512"]
    environment = {**os.environ, "EXCISE_ADMIN_KEYS": server.admin_key, "EXCISE_COHERENCE_RATE": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait(process, server.url, log, limit)
        yield server
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):  # then it is ended below
            process.wait(60)
    finally:
        with contextlib.suppress(ProcessLookupError):  # whatever is left of its process group
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path, limit: float) -> None:
    deadline = time.monotonic() + limit
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/ready", timeout=5).status_code == 200:
                return
        time.sleep(0.3)
    end = log.read_text(errors="replace")[-2000:]
    raise ServerError(f"the server did not get ready; the end of {log}:\n{end}")
