"""Sample-ratio mismatch: an exact e-process for whether units are split among variants as designed.

A Dirichlet mixture of splits against the designed one (Lindon, Malek 2020, "Anytime-valid inference for multinomial
count data"). A broken split means that a part of the responses is lost or double, and that no rate can be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln, xlogy

CONCENTRATION = 100.0
"""Of the Dirichlet mixture about the design: shares of ½ are expected to be off by 0.05 if they are off."""


def split_log_e_value(strata: Sequence[tuple[Sequence[int], Sequence[float]]]) -> float:
    """Logarithm of the e-value against the designed split, in every stratum.

    A stratum is the units seen of each variant, and the variants' designed weights, which need not sum to 1. The split
    is broken, at level α, where this reaches `log(1/α)`; inf where a variant of weight 0 has units.

    Raises:
        ValueError: counts and weights do not fit together.
    """
    return math.fsum(_log_e_value(np.asarray(counts), np.asarray(weights, dtype=float)) for counts, weights in strata)


def _log_e_value(counts: np.ndarray, weights: np.ndarray) -> float:
    if counts.shape != weights.shape or counts.ndim != 1:
        raise ValueError(f"{counts.size} counts and {weights.size} weights: each variant needs one of both")
    if (counts < 0).any() or (weights < 0).any() or not 0 < weights.sum() < math.inf:
        raise ValueError("counts and weights are at least 0, and some weight is positive")
    if counts[weights == 0].any():
        return math.inf
    counts, weights = counts[weights > 0], weights[weights > 0] / weights.sum()
    prior = CONCENTRATION * weights
    mixture = gammaln(CONCENTRATION) - gammaln(CONCENTRATION + counts.sum())
    return float(mixture + (gammaln(prior + counts) - gammaln(prior) - xlogy(counts, weights)).sum())
