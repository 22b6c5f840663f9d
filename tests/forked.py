"""Processes that are forked from one which has imported the libraries: as fresh as others, without their seconds."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import multiprocessing.util
import os
import signal
import subprocess
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from demo.server import free_port

ROOT = Path(__file__).resolve().parents[1]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["excise", "correction.sweep.sweep", "commands.correct_run", "tests.engine_imports"])
_RUNNING: weakref.WeakSet[Forked] = weakref.WeakSet()


@atexit.register  # before that of multiprocessing, which waits for every process
def _kill_all() -> None:
    for process in _RUNNING:
        process.kill()


class Forked:
    """A function of a module in such a process: the leader of a session, with its output in files.

    What can be asked of it is what `subprocess.Popen` has.

    Args:
        call: The function.
        arguments: Its arguments.
        stdout: Where its output goes; the file is begun anew.
        stderr: The same; may be the same file.
        env: What its environment has besides.
    """

    def __init__(
        self,
        call: Callable[..., object],
        arguments: tuple[object, ...],
        stdout: Path,
        stderr: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        for file in (stdout, stderr):
            file.write_bytes(b"")
        environment = {**os.environ, **(env or {})}
        self._process = _CONTEXT.Process(target=_in_child, args=(call, arguments, stdout, stderr, environment))
        self._process.start()
        self.pid: int = self._process.pid or 0
        _RUNNING.add(self)

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self._process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def excise(*arguments: object, limit: float = 300) -> subprocess.CompletedProcess[str]:
    """`excise` with these arguments, in the repository's folder."""
    return forked(run_excise, *map(str, arguments), limit=limit)


def forked(call: Callable[..., object], *arguments: object, limit: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a function of a module, with what it prints."""
    return _finished(call, arguments, [None], limit)[0]


def two_ranks(call: Callable[..., object], *arguments: object, limit: float = 240) -> subprocess.CompletedProcess[str]:
    """Run it in two processes, told what `torchrun` would tell them. Fails if one does; returns that of rank 0."""
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    ranks = [{**places, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    runs = _finished(call, arguments, ranks, limit)
    assert [run.returncode for run in runs] == [0, 0], "\n".join(run.stderr for run in runs)
    return runs[0]


def _finished(
    call: Callable[..., object],
    arguments: tuple[object, ...],
    environments: Sequence[Mapping[str, str] | None],
    limit: float,
) -> list[subprocess.CompletedProcess[str]]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        processes = []
        for number, environment in enumerate(environments):
            files = Path(folder, f"{number}.out"), Path(folder, f"{number}.err")
            processes.append((process := Forked(call, arguments, *files, environment), files))
            stack.callback(process.kill)
        return [
            subprocess.CompletedProcess(
                arguments, process.wait(limit), *(file.read_text(errors="replace") for file in files)
            )
            for process, files in processes
        ]


def forked_program(source: str, *arguments: str, limit: float = 240) -> subprocess.CompletedProcess[str]:
    """Run a program, as `python -c` does."""
    return forked(_run_program, source, *arguments, limit=limit)


def _run_program(source: str, *arguments: str) -> None:
    sys.argv = ["-c", *arguments]
    exec(compile(source, "<program>", "exec"), {"__name__": "__main__"})


def run_excise(*arguments: str) -> None:
    """What the command `excise` does."""
    import excise

    sys.argv = ["excise", *arguments]
    excise.main()


def _in_child(
    call: Callable[..., object], arguments: tuple[object, ...], stdout: Path, stderr: Path, environment: dict[str, str]
) -> None:
    os.setsid()
    for number, file in ((1, stdout), (2, stderr)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    if environment.get("PYTHONWARNINGS"):
        warnings.simplefilter("default")
    os.chdir(ROOT)
    call(*arguments)
