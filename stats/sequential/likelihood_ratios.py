"""Likelihood ratios of alternatives to one point of the null: a stratum's share in the e-process of `rates`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, logsumexp, xlog1py, xlogy

from stats.sequential.counts import Stratum
from stats.sequential.effect_prior import EITHER, Effects

Array = NDArray[np.float64]

GUARD = 0.05
"""Share of the mixture that watches over the null's free rate."""


class Cells(NamedTuple):
    """A stratum as numbers, which need not be whole: expected counts are evidence to be expected."""

    control: float
    """Events of the control."""
    control_trials: float
    treatment: float
    treatment_trials: float
    share: float

    @classmethod
    def of(cls, stratum: Stratum) -> Cells:
        """The numbers of a stratum."""
        control, treatment = stratum.control, stratum.treatment
        return cls(control.events, control.trials, treatment.events, treatment.trials, stratum.share)


def log_ratios(
    cells: Cells, rates: ArrayLike, difference: float, effects: Effects, kept: NDArray[np.int_] | None = None
) -> Array:
    """`log R` [*rates, effects] of null points `(rate, rate + difference)`; inf where the null is impossible.

    The numbers of `cells` may be arrays that broadcast with `rates`. `kept`: numbers of the effects asked for.
    """
    sizes = effects.sizes if kept is None else effects.sizes[kept]
    k_a, n_a, k_b, n_b, share = (np.asarray(number, dtype=float)[..., None] for number in cells)
    a = np.clip(np.asarray(rates, dtype=float), 0, 1)[..., None]
    b = np.clip(a + difference, 0, 1)
    null_a, null_b = log_likelihood(k_a, n_a, a), log_likelihood(k_b, n_b, b)
    with np.errstate(invalid="ignore"):  # an impossible null: −inf from −inf; mended below
        lower, higher = alternatives(a, b, share, sizes)
        ratios = log_likelihood(k_a, n_a, lower) - null_a + log_likelihood(k_b, n_b, higher) - null_b
        if effects is EITHER:
            guard = betaln(k_a + 0.5, n_a - k_a + 0.5) + betaln(k_b + 0.5, n_b - k_b + 0.5) - 2 * betaln(0.5, 0.5)
        else:
            lower, higher = moved(a, -effects.sizes), moved(b, effects.sizes)
            guard = logsumexp(log_likelihood(k_a, n_a, lower) + effects.log_masses, axis=-1, keepdims=True)
            guard += logsumexp(log_likelihood(k_b, n_b, higher) + effects.log_masses, axis=-1, keepdims=True)
        log_mixture = np.logaddexp(math.log1p(-GUARD) + ratios, math.log(GUARD) + guard - null_a - null_b)
    return np.where(np.isfinite(null_a + null_b), log_mixture, math.inf)


def log_likelihood(events: ArrayLike, trials: ArrayLike, rates: ArrayLike) -> Array:
    """Of a sequence of trials with so many events."""
    return xlogy(events, rates) + xlog1py(np.subtract(trials, events), np.negative(rates))


def moved(rates: Array, effects: Array) -> Array:
    """Rates after a change of `2·asin(√rate)` by `effects`, as far as there are such rates."""
    angles = 2 * np.arctan2(np.sqrt(rates), np.sqrt(1 - rates))
    return np.where(effects == 0, rates, np.sin(np.clip(angles + effects, 0, math.pi) / 2) ** 2)


def alternatives(a: Array, b: Array, share: Array, effects: Array) -> tuple[Array, Array]:
    """Pairs of rates [*, effects] whose likeliest null point is `(a, b)`, until one of them is 0 or 1."""
    spread_a, spread_b = share * np.sqrt(a * (1 - a)), (1 - share) * np.sqrt(b * (1 - b))
    lever = _part(spread_a, spread_b, share)
    gain = moved(b, (1 - lever) * effects) - b - (moved(a, -lever * effects) - a)
    lever = _part(share * a * (1 - a), (1 - share) * b * (1 - b), share)
    return np.clip(a - lever * gain, 0, 1), np.clip(b + (1 - lever) * gain, 0, 1)


def _part(one: Array, other: Array, otherwise: Array) -> Array:
    """`one` of the sum of both; `otherwise` where that is 0."""
    total = one + other
    return np.where(total > 0, one / np.where(total > 0, total, 1), otherwise)
