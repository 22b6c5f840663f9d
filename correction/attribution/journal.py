"""A journal of a long attribution: the sums so far on disk, so that a run that was killed goes on where it was."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from correction.attribution.criteria import Score
from correction.errors import JournalError


class Journal:
    """The sums of one attribution after each batch: one safetensors file, replaced as a whole.

    Args:
        folder: Where it lies; made if it is not there.
        identity: Everything that the sums depend on. Another identity is another file.

    Raises:
        JournalError: The folder cannot be written to.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.path = folder / f"attribution-{digest[:32]}.safetensors"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JournalError(f"{folder}: no journal can be kept there: {error.strerror}") from error

    def resume(self, scores: Mapping[str, Score]) -> int:
        """Fill in the sums of an earlier run, and return how many batches they hold; 0 if there was none.

        Raises:
            JournalError: The file is damaged, or of other scores.
        """
        if not self.path.exists():
            return 0
        try:
            with safe_open(self.path, "pt") as file:
                for name, score in scores.items():
                    score.sum.copy_(file.get_tensor(name))
                return int(file.metadata()["batches"])
        except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise JournalError(f"{self.path}: no journal of this run ({error}); delete it to start afresh") from error

    def write(self, scores: Mapping[str, Score], batches: int) -> None:
        """Put the sums after this many batches in place of what was there.

        Raises:
            JournalError: The file cannot be written; what was there is still there.
        """
        temporary = self.path.with_suffix(".draft")  # a name of its own: the next write replaces what a stop left
        try:
            tensors = {name: score.sum.cpu() for name, score in scores.items()}
            save_file(tensors, temporary, {"batches": str(batches)})
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            raise JournalError(f"{self.path}: cannot be written: {error}") from error
