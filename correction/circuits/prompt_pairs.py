"""Pairs of prompts: the task as a circuit is asked for it, in the model's own tokens."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from correction.errors import ReferenceSetError
from correction.models import LoadedModel

NOT_ONE, ALIKE, LENGTHS, AGAIN = (
    "an answer is not one token",
    "the answers are the same token",
    "clean and corrupted differ in length",
    "the same prompt again",
)


@dataclass(frozen=True)
class Pair:
    """A prompt, its corrupted twin, and two continuations of which the first is right after the clean prompt.

    An answer is what follows the prompt as it stands, most often with its space: `" Mary"`.
    """

    clean: str
    corrupted: str
    correct: str
    wrong: str


@dataclass(frozen=True)
class TaskRow:
    """A pair in tokens: clean and corrupted prompt of the same length or not, and the two answers."""

    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    correct: int
    wrong: int


@dataclass(frozen=True)
class TaskRows:
    """The rows of a task that a model can be asked, and why others were dropped.

    Attributes:
        rows: All distinct.
        dropped: Reason → number of pairs.
        sha256: Over the tokens.
    """

    name: str
    rows: tuple[TaskRow, ...]
    dropped: Mapping[str, int]

    @property
    def sha256(self) -> str:
        """Of the rows, 64 hex digits."""
        return sha256(
            repr([(row.clean, row.corrupted, row.correct, row.wrong) for row in self.rows]).encode()
        ).hexdigest()

    def thirds(self, seed: int = 0) -> tuple[tuple[TaskRow, ...], tuple[TaskRow, ...], tuple[TaskRow, ...]]:
        """Three parts, drawn: to attribute on, to choose the size on, and to report on; the last gets what is over.

        Raises:
            ReferenceSetError: Fewer than six rows.
        """
        if len(self.rows) < 6:
            raise ReferenceSetError(f"{self.name}: {len(self.rows)} usable rows; three parts need at least 6")
        order = np.random.default_rng(seed).permutation(len(self.rows))
        third = len(self.rows) // 3
        parts = (order[:third], order[third : 2 * third], order[2 * third :])
        one, two, three = (tuple(self.rows[place] for place in sorted(part)) for part in parts)
        return one, two, three

    def described(self) -> dict[str, Any]:
        """As a mask records it."""
        description: dict[str, Any] = {"name": self.name, "size": len(self.rows), "sha256": self.sha256[:16]}
        return description | ({"dropped": dict(self.dropped)} if self.dropped else {})


def tokenise_pairs(loaded: LoadedModel, pairs: Iterable[Pair], name: str, *, aligned: bool = False) -> TaskRows:
    """Pairs as rows, without those that cannot be asked.

    An answer counts as one token where the prompt with it has one token more than the prompt, and begins with the same.

    Args:
        loaded: The model.
        pairs: Clean and corrupted prompts with their answers.
        name: Of the task, for messages.
        aligned: Clean and corrupted must have as many tokens, so that one can be read at the places of the other.

    Raises:
        ReferenceSetError: Nothing is left, or a prompt does not fit the context.
    """
    dropped: Counter[str] = Counter()
    rows: dict[tuple[int, ...], TaskRow] = {}
    for pair in pairs:
        clean, corrupted = token_ids(loaded, pair.clean), token_ids(loaded, pair.corrupted)
        if not clean or not corrupted or max(len(clean), len(corrupted)) > loaded.context_length:
            raise ReferenceSetError(f"{name}: a prompt is empty or longer than the context of {loaded.context_length}")
        answers = [_added(clean, token_ids(loaded, pair.clean + answer)) for answer in (pair.correct, pair.wrong)]
        if answers[0] is None or answers[1] is None:
            dropped[NOT_ONE] += 1
        elif answers[0] == answers[1]:
            dropped[ALIKE] += 1
        elif aligned and len(clean) != len(corrupted):
            dropped[LENGTHS] += 1
        elif clean in rows:
            dropped[AGAIN] += 1
        else:
            rows[clean] = TaskRow(clean, corrupted, answers[0], answers[1])
    if not rows:
        reasons = ", ".join(f"{reason}: {number}" for reason, number in dropped.items())
        raise ReferenceSetError(f"{name}: no row is left ({reasons or 'there were none'})")
    return TaskRows(name, tuple(rows.values()), dict(dropped))


def single_token_words(
    task: str, kind: str, words: Iterable[str], one: Callable[[str], bool], fewest: int
) -> list[str]:
    """Those of the words, each after a space, that are one token.

    Raises:
        ReferenceSetError: Fewer than `fewest`; the message names `kind` and `task`.
    """
    known = [f" {word}" for word in words if one(f" {word}")]
    if len(known) < fewest:
        raise ReferenceSetError(f"{task}: {len(known)} {kind} are one token of this vocabulary; it needs {fewest}")
    return known


def token_ids(loaded: LoadedModel, text: str) -> tuple[int, ...]:
    """Tokens of a prompt as it stands, without the chat template."""
    return tuple(loaded.tokenizer(text, verbose=False)["input_ids"])


def _added(before: Sequence[int], after: Sequence[int]) -> int | None:
    return after[-1] if len(after) == len(before) + 1 and after[:-1] == before else None
