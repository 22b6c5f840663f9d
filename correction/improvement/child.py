"""A command of Excise in a process of its own, which ends when the worker does."""

import contextlib
import ctypes
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LOOK_EVERY = 0.2
_GRACE = 5.0
_SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of linux/prctl.h."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        document: what it printed as JSON; empty where it printed none.
        error: the end of what it said on standard error.
    """

    code: int
    document: Mapping[str, Any]
    error: str


def run(arguments: Sequence[str], log: Path, beat: Callable[[], None], every: float) -> Ended:
    """Run `excise` with these arguments and `--json`, and call `beat` meanwhile.

    Args:
        arguments: Of the command, its name first.
        log: File for what it says on standard error; what it prints is written beside it.
        beat: Called again and again while the command runs.
        every: Seconds between two calls of `beat`.

    Whatever `beat` raises is raised; the command is ended then.
    """
    printed = log.with_suffix(".json")
    with printed.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "excise", *arguments, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            preexec_fn=_die_with_parent,  # the worker has no other thread
        )
    try:
        due = time.monotonic() + every
        while process.poll() is None:
            time.sleep(_LOOK_EVERY)
            if time.monotonic() >= due:
                beat()
                due = time.monotonic() + every
    finally:
        _end(process)
    return Ended(process.returncode, _document(printed), log.read_text(errors="replace")[-2000:].strip())


def _document(printed: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(printed.read_text())
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _die_with_parent() -> None:
    """In the child, before it begins: a worker that is killed leaves no command behind that nobody waits for."""
    with contextlib.suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
