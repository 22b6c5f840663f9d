"""Inside a worker process: loads the scorer and answers batch by batch, until its parent hangs up.

This module runs in a process of its own, so it imports little, and no metrics.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from behaviours import (
    CheckedScorer,
    ScorerError,
    ScorerUnavailableError,
    is_refusal,
    load_scorer,
    response_uniqueness_ratio,
)
from service import logs, watchdog

Item = tuple[str, Sequence[int]]
"""A response's text and its tokens."""

_NICENESS = 19
_LONGEST_PROBLEM = 500


@dataclass(frozen=True)
class Reply:
    """What a worker answers to a batch."""

    marks: list[tuple[float, float | None, bool] | None]
    """Toxicity, uniqueness ratio and refusal of each response; None for one that the scorer failed on."""
    threshold: float = 0.5
    problem: str = ""
    """Why some have none; the first reason."""
    available: bool = True
    """False: the scorer scores nothing at all now."""
    batch: int | None = None
    """Most responses that the scorer wants at a time."""


def run(connection: Connection, spec: str, patience: float) -> None:
    """Answer batches until the other end is closed.

    Args:
        connection: to the server.
        spec: names the scorer.
        patience: seconds for one call of a scorer over a network.
    """
    watchdog.end_with_parent()
    logs.show()
    os.nice(_NICENESS)  # inference goes first
    os.environ["OMP_NUM_THREADS"] = "1"
    scorer: CheckedScorer | None = None
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            items: list[Item] = pickle.loads(connection.recv_bytes())  # noqa: S301 - our parent wrote it
            try:
                scorer = scorer or load_scorer(spec, patience=patience)
                reply = answer(scorer, items)
            except Exception as error:  # a scorer is another's code; the process is still good
                reply = Reply([None] * len(items), problem=_error_text(error), available=False)
            connection.send_bytes(pickle.dumps(reply, pickle.HIGHEST_PROTOCOL))


def answer(scorer: CheckedScorer, items: Sequence[Item]) -> Reply:
    """Score a batch. Where the scorer fails on it, it is halved, so that one text costs no other its score.

    Raises:
        ScorerUnavailableError: no text can be scored now.
    """
    problems: list[str] = []

    def scores(part: Sequence[Item]) -> list[float | None]:
        try:
            return list(scorer.score([text for text, _ in part]).tolist())
        except ScorerUnavailableError:
            raise
        except Exception as error:
            if len(part) == 1:
                problems.append(_error_text(error))
                return [None]
            middle = len(part) // 2
            return scores(part[:middle]) + scores(part[middle:])

    marks = [
        None if score is None else (score, response_uniqueness_ratio(tokens) if len(tokens) else None, is_refusal(text))
        for (text, tokens), score in zip(items, scores(items), strict=True)
    ]
    return Reply(marks, scorer.threshold, problems[0] if problems else "", batch=scorer.batch)


def _error_text(error: Exception) -> str:
    message = str(error) if isinstance(error, ScorerError) else f"{type(error).__name__}: {error}"
    return message[:_LONGEST_PROBLEM]
