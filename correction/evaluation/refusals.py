"""Refusals among responses. On harmful requests, the attack success rate is 1 − the refusal rate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviours.refusal import is_refusal
from stats.estimates import Rate, by_prompt, rate


@dataclass(frozen=True)
class Refusals:
    """Refusals among the responses to a set of prompts.

    Attributes:
        flags: 1.0 where a response refuses, else 0.0, those to one prompt together: (prompts * samples,).
        rate: Refusals, with the interval of `estimates.rate`.
        samples: Responses to each prompt.
    """

    flags: NDArray[np.float64]
    rate: Rate
    samples: int = 1


def refusals(responses: Sequence[str], *, samples: int = 1, confidence: float = 0.95, seed: int = 0) -> Refusals:
    """Count the responses that refuse, `samples` to each prompt, those to one prompt together.

    Raises:
        EvaluationError: There are none, or the last prompt has fewer than the others.
    """
    flags = np.array([is_refusal(text) for text in responses], dtype=np.float64)
    by_prompt(flags, samples)
    return Refusals(flags, rate(flags, samples, confidence=confidence, seed=seed), samples)
