"""Servers under measurement: `excise serve` or vLLM alone, each a process group of its own, on 127.0.0.1."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import httpx

from demo.server import free_port

NAME = "llama"
"""The name that every server gives the model."""
ADMIN = "benchmark"
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """A server that was started, maybe not ready yet. `plain` is vLLM without Excise. Stopped by `stop`."""

    def __init__(self, model: Path, folder: Path, *options: str, plain: bool = False) -> None:
        folder.mkdir()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log"
        listening = ["--host", "127.0.0.1", "--port", str(self.port), "--served-model-name", NAME]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("EXCISE_", "VLLM_"))}
        environment |= {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1"}  # 2 GiB
        if plain:
            command = [sys.executable, "-m", "benchmarks.plain", "--model", str(model)]
        else:
            command = [sys.executable, "-m", "excise", "serve", "--model", str(model), "--store", str(folder / "store")]
            command += ["--admin-key", ADMIN]
        with self.log.open("wb") as log:
            self.started = time.monotonic()
            self.process = subprocess.Popen(  # noqa: S603
                [*command, *options, *listening],
                cwd=Path(__file__).resolve().parents[1],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, limit: float = 600) -> float:
        """Until it is ready; returns the seconds since its start. Raises `RuntimeError` with the end of its log."""
        while (passed := time.monotonic() - self.started) < limit:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.tail()}")
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 200:
                    return time.monotonic() - self.started
            time.sleep(0.1)
        raise RuntimeError(f"the server was not ready after {passed:.0f} s:\n{self.tail()}")

    def register(self, file: Path) -> None:
        """`POST /masks`. Raises `httpx.HTTPStatusError`."""
        headers = {"Authorization": f"Bearer {ADMIN}"}
        httpx.post(f"{self.url}/masks", content=file.read_bytes(), headers=headers, timeout=60).raise_for_status()

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:]

    def compilation(self) -> str:
        """The compilation mode in vLLM's log: NONE, VLLM_COMPILE, …; empty where it does not."""
        modes = re.findall(r"'mode': <CompilationMode\.(\w+)", self.log.read_text(errors="replace"))
        return modes[-1] if modes else ""

    def loading_weights(self) -> float:
        """Seconds that vLLM says loading the weights took. Raises `RuntimeError` where its log does not tell."""
        seconds = re.findall(r"Loading weights took ([\d.]+) seconds", self.log.read_text(errors="replace"))
        if not seconds:
            raise RuntimeError(f"no loading time in the log:\n{self.tail()}")
        return float(seconds[-1])

    def cpu_seconds(self) -> float:
        """Processor time of its processes so far, and of those that they started and waited for, such as compilers."""
        return sum(ticks for _, ticks in self._processes()) / TICKS

    def settle(self, limit: float = 60) -> None:
        """Wait until it rests: what it does after the last response, such as scoring, is not the next round's load."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            before = self.cpu_seconds()
            time.sleep(0.5)
            if self.cpu_seconds() - before <= 0.02:
                return
        raise RuntimeError(f"the server does not come to rest within {limit:.0f} s, so it would disturb another")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to whatever of its group is left after 20 s."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _processes(self) -> Iterator[tuple[int, int]]:
        """Number and processor ticks of each process of its group (proc(5): pgrp is field 5, utime 14 to cstime 17)."""
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[2]) == self.process.pid:
                    yield int(stat.parent.name), sum(map(int, fields[11:15]))


@contextmanager
def running(model: Path, folder: Path, *options: str, plain: bool = False) -> Iterator[Server]:
    """A server that is ready; stopped at the end of the block, whatever happened in it."""
    server = Server(model, folder, *options, plain=plain)
    try:
        server.wait()
        yield server
    finally:
        server.stop()


def end_on_termination() -> None:
    """Have SIGTERM unwind this process, so that the blocks of `running` stop their servers."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
