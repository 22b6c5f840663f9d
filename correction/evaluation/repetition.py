"""Repetition of responses: their uniqueness ratios, and the rate of those that repeat themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviours import is_repetitive, response_uniqueness_ratio
from correction.evaluation.bootstrap import Estimate, Rate, bootstrap, mean, wilson


@dataclass(frozen=True)
class Repetition:
    """Repetition of the responses to a set of prompts.

    Attributes:
        ratios: response uniqueness ratio of each, float64 (prompts,).
        flags: 1.0 where a response is repetitive, else 0.0: (prompts,). An empty one is not.
        rate: repetitive responses, with Wilson's interval.
        mean: mean uniqueness ratio, with its bootstrap interval.
    """

    ratios: NDArray[np.float64]
    flags: NDArray[np.float64]
    rate: Rate
    mean: Estimate


def repetition(responses: Sequence[Sequence[int]], *, confidence: float = 0.95, seed: int = 0) -> Repetition:
    """Measure responses, given as token ids without the token that ended them.

    Raises:
        EvaluationError: there are none.
    """
    ratios = np.array([response_uniqueness_ratio(tokens) for tokens in responses], dtype=np.float64)
    flags = np.array([is_repetitive(tokens) for tokens in responses], dtype=np.float64)
    rate = wilson(int(flags.sum()), len(flags), confidence)
    return Repetition(ratios, flags, rate, bootstrap(mean, ratios, confidence=confidence, seed=seed))
