"""Repetition of responses: their uniqueness ratios, and the rates of those that repeat themselves or say nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviours import is_repetitive, response_uniqueness_ratio
from stats.estimates import Estimate, Rate, bootstrap, by_prompt, mean, rate, wilson


@dataclass(frozen=True)
class Repetition:
    """Repetition of the responses to a set of prompts.

    Attributes:
        ratios: Response uniqueness ratio of each, those to one prompt together: float64 (prompts * samples,).
        flags: 1.0 where a response is repetitive, else 0.0: (prompts * samples,). An empty one is not.
        rate: Repetitive responses, with the interval of `estimates.rate`.
        mean: Mean uniqueness ratio, with its bootstrap interval over prompts.
        prompts: Prompts with at least one repetitive response, with Wilson's interval.
        empty_flags: 1.0 where a response is empty, else 0.0: (prompts * samples,).
        empty: Empty responses, with the interval of `rate`.
        samples: Responses to each prompt; with one, `prompts` is `rate`.
    """

    ratios: NDArray[np.float64]
    flags: NDArray[np.float64]
    rate: Rate
    mean: Estimate
    prompts: Rate
    empty_flags: NDArray[np.float64]
    empty: Rate
    samples: int = 1


def repetition(
    responses: Sequence[Sequence[int]], *, samples: int = 1, confidence: float = 0.95, seed: int = 0
) -> Repetition:
    """Measure responses, given as token ids without the token that ended them, `samples` to each prompt.

    Raises:
        EvaluationError: There are none, or the last prompt has fewer than the others.
    """
    ratios = np.array([response_uniqueness_ratio(tokens) for tokens in responses], dtype=np.float64)
    flags = np.array([is_repetitive(tokens) for tokens in responses], dtype=np.float64)
    empty = np.array([not tokens for tokens in responses], dtype=np.float64)
    any_flagged = by_prompt(flags, samples).max(-1)
    return Repetition(
        ratios,
        flags,
        rate(flags, samples, confidence=confidence, seed=seed),
        bootstrap(mean, by_prompt(ratios, samples).mean(-1), confidence=confidence, seed=seed),
        prompts=wilson(int(any_flagged.sum()), len(any_flagged), confidence),
        empty_flags=empty,
        empty=rate(empty, samples, confidence=confidence, seed=seed),
        samples=samples,
    )
