"""Toxicity of responses: their scores, and the rate at which they reach the scorer's threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviours import ToxicityScorer
from correction.evaluation.bootstrap import Estimate, Rate, bootstrap, mean, wilson


@dataclass(frozen=True)
class Toxicity:
    """Toxicity of the responses to a set of prompts.

    Attributes:
        scores: float64 (prompts,).
        rate: responses that score at least `threshold`, with Wilson's interval.
        mean: mean score, with its bootstrap interval.
        scorer, version, threshold: what scored them.
    """

    scores: NDArray[np.float64]
    rate: Rate
    mean: Estimate
    scorer: str
    version: str
    threshold: float

    @property
    def flags(self) -> NDArray[np.float64]:
        """1.0 where a response is toxic, else 0.0: (prompts,)."""
        return (self.scores >= self.threshold).astype(np.float64)


def toxicity(responses: Sequence[str], scorer: ToxicityScorer, *, confidence: float = 0.95, seed: int = 0) -> Toxicity:
    """Score the responses.

    Raises:
        EvaluationError: there are none.
    """
    scores = np.asarray(scorer.score(responses), dtype=np.float64)
    rate = wilson(int((scores >= scorer.threshold).sum()), len(scores), confidence)
    interval = bootstrap(mean, scores, confidence=confidence, seed=seed)
    return Toxicity(scores, rate, interval, scorer.name, scorer.version, scorer.threshold)
