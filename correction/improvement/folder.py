"""A worker's folder: its name, which a restart finds again, and what each job has made so far."""

import fcntl
import json
import os
import secrets
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from correction.errors import CorrectionError

_NAME = "worker"
_LOCK = "lock"


class WorkerFolderError(CorrectionError):
    """The folder cannot be used; the message says why."""


class WorkerFolder:
    """Of one worker at a time.

    Raises:
        WorkerFolderError: another worker has it, or it cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock: IO[str] = (path / _LOCK).open("w")
            self._hold()
            self.worker = self._named()
        except BlockingIOError:
            raise WorkerFolderError(
                f"--folder {path} is another worker's, which is running; give each its own"
            ) from None
        except OSError as error:
            raise WorkerFolderError(f"--folder {path} cannot be used: {error.strerror}") from error

    def _hold(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise

    def _named(self) -> str:
        """The name that this folder's worker has jobs under, made once."""
        file = self.path / _NAME
        if not file.exists():
            host = "".join(letter for letter in socket.gethostname() if letter.isalnum() or letter == "-")[:40]
            write(file, f"{host or 'worker'}-{secrets.token_hex(4)}")
        return file.read_text().strip()

    def of(self, job: str) -> Path:
        """The folder of a job, made if it is not there."""
        folder = self.path / job
        folder.mkdir(exist_ok=True)
        return folder

    def clear(self, job: str) -> None:
        """Forget what people wrote, and what is of no more use: all but masks and figures."""
        folder = self.path / job
        for file in folder.glob("*.jsonl"):
            file.unlink()
        shutil.rmtree(folder / "journal", ignore_errors=True)

    def close(self) -> None:
        """Let go of it."""
        self._lock.close()


def write(path: Path, text: str) -> None:
    """Put a file in place as a whole, so that one that is there is complete."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def write_rows(path: Path, column: str, texts: Sequence[str]) -> None:
    """A `.jsonl` file of one column, as a whole."""
    write(path, "".join(json.dumps({column: text}) + "\n" for text in texts))


def read_json(path: Path) -> dict[str, Any] | None:
    """What was written there; None where nothing was."""
    if not path.exists():
        return None
    document: dict[str, Any] = json.loads(path.read_text())
    return document
