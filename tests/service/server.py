"""A real server in a process of its own, on 127.0.0.1, for tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from demo.server import free_port
from tests.forked import ROOT, Forked, run_excise

MODEL = ROOT / "demo" / "model"
ADMIN = "test-admin-key"
READER = "test-reader-key"


class Server:
    """`excise serve` or, with `plain`, vLLM alone.

    It is forked (`tests.forked`), with its engine, which takes 7 s, unless it is to be `spawned`, as a user's is, which
    takes 50 s: for tests of how its processes end. vLLM alone always is.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        model: Path = MODEL,
        plain: bool = False,
        env: dict[str, str] | None = None,
        eager: bool = True,
        port: int | None = None,
        spawned: bool = False,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"server-{self.port}.log"
        vllm = ["--port", str(self.port), "--dtype", "float32", "--max-model-len", "256", *["--enforce-eager"] * eager]
        if plain:
            command = ["--model", str(model), "--served-model-name", "demo", "--host", "127.0.0.1", *vllm, *options]
        else:
            command = ["serve", "--model", str(model), "--store", str(folder / "store")]
            command += ["--served-model-name", "demo", "--admin-key", ADMIN, *options, *vllm]
        environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "PYTHONWARNINGS": "default", **(env or {})}
        self.process = (
            _spawned(plain, command, self.log, environment)
            if plain or spawned
            else _forked(command, self.log, environment)
        )

    def wait(self, limit: float = 240) -> Server:
        """Until it is ready. Fails with the end of its log."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.tail()}")
            try:
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 200:
                    return self
            except httpx.HTTPError:
                pass
            time.sleep(0.3)
        self.kill()
        raise RuntimeError(f"the server was not ready after {limit} s:\n{self.tail()}")

    def client(self, key: str | None = ADMIN) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def stop(self, limit: float = 60) -> int:
        """Ask it to end; return its exit code. Fails if it leaves a process behind."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(limit)
        deadline = time.monotonic() + 10
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.1)
        left = self.alive()
        self.kill()
        if left:
            raise RuntimeError(f"the server left processes behind: {left}")
        return code

    def kill(self) -> None:
        """SIGKILL to it and all it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def alive(self) -> list[int]:
        """The processes of its group that still run (zombies aside)."""
        pids = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == self.process.pid and fields[0] != "Z":
                pids.append(int(stat.parent.name))
        return pids


def _spawned(plain: bool, arguments: list[str], log: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.service.plain" if plain else "excise", *arguments]
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **env},
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def _forked(arguments: list[str], log: Path, env: dict[str, str]) -> Forked:
    # One thread, and where the system puts it: servers side by side must not all sit on the first core.
    env = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", **env}
    return Forked(_serve, tuple(arguments), log, log, env)


def _serve(*arguments: str) -> None:
    from tests.engine_imports import fork_engines

    fork_engines()
    run_excise(*arguments)
