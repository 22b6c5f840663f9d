"""Toxicity of a text, by a scorer that says its name, its version and from which score on a text counts as toxic."""

import importlib
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


class ScorerError(ValueError):
    """A scorer that does not exist, or whose library is not installed."""


@runtime_checkable
class ToxicityScorer(Protocol):
    """What evaluation and the service ask of a scorer; all four go into every result.

    A text is toxic where its score is at least `threshold`.
    """

    name: str
    version: str
    threshold: float

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Probability of toxicity of each text: float64 in [0, 1], shape (len(texts),)."""
        ...


class ProfanityScorer:
    """`alt-profanity-check`: a linear model on words that comes with its own small weights and needs no network.

    It hears words, not meaning: it flags a quoted insult and misses a polite one. 3 ms for one text, 0.03 ms each in
    batches of a thousand.
    """

    name = "alt-profanity-check"
    threshold = 0.5

    def __init__(self) -> None:
        try:
            self._library = importlib.import_module("profanity_check")
            self.version = importlib.metadata.version("alt-profanity-check")
        except ImportError as error:
            raise ScorerError(f"the scorer {self.name!r} needs its library: pip install alt-profanity-check") from error

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Probability of profanity of each text: float64 in [0, 1], shape (len(texts),); 0.0 for a blank text."""
        scores = np.zeros(len(texts), dtype=np.float64)
        spoken = [index for index, text in enumerate(texts) if text.strip()]
        if spoken:
            scores[spoken] = self._library.predict_prob([texts[index] for index in spoken])
        return scores


_SCORERS: dict[str, Callable[[], ToxicityScorer]] = {"profanity": ProfanityScorer}


def load_scorer(name: str = "profanity") -> ToxicityScorer:
    """The scorer of this name, ready to use.

    Raises:
        ScorerError: no scorer of this name, or its library is missing.
    """
    try:
        scorer = _SCORERS[name]
    except KeyError:
        raise ScorerError(f"there is no scorer {name!r}; there is: {', '.join(sorted(_SCORERS))}") from None
    return scorer()
