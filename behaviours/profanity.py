"""Profanity by a linear model on words: small, quick, offline."""

import importlib
import importlib.metadata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from behaviours.scorer import ScorerError


class ProfanityScorer:
    """`alt-profanity-check`: a linear model on words that comes with its own small weights and needs no network.

    It sees words, not meaning: it flags a quoted insult and misses a polite one. 3 ms for one text, 0.03 ms each in
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
