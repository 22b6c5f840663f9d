"""A call in a process of its own, forked from one that has imported the libraries: as fresh, without their seconds."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["excise", "commands.correct_run", "commands.evaluate_run", "correction.sweep.sweep", "service.bootstrap"]
)


def excise(*arguments: object, limit: float = 300) -> subprocess.CompletedProcess[str]:
    """`excise` with these arguments, in the repository's folder."""
    return forked(_excise, *map(str, arguments), limit=limit)


def forked(call: Callable[..., object], *arguments: object, limit: float = 300) -> subprocess.CompletedProcess[str]:
    """A function of a module, with what it prints. It gets the environment of the first call in this test process."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "stdout"), Path(folder, "stderr")
        process = _CONTEXT.Process(target=_in_child, args=(call, arguments, *files))
        process.start()
        process.join(limit)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(str(arguments), limit)
        out, err = (file.read_text(errors="replace") for file in files)
        return subprocess.CompletedProcess(arguments, process.exitcode, out, err)


def _in_child(call: Callable[..., object], arguments: tuple[object, ...], *files: Path) -> None:
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(ROOT)
    call(*arguments)


def _excise(*arguments: str) -> None:
    import excise

    sys.argv = ["excise", *arguments]
    excise.main()
