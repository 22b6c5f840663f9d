"""Intervals: Wilson's for a rate, Newcombe's for the difference of two, the bootstrap for everything else.

Several responses to one prompt are alike, so only prompts count as independent: where there are several, rates and
their differences are bootstrapped over prompts too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stats.errors import StatisticsError

Floats = NDArray[np.float64]

_BATCH = 1 << 22
"""Items that are drawn at one time: what a bootstrap takes of memory."""


@dataclass(frozen=True)
class Estimate:
    """A value with the limits of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Rate:
    """A share of successes with the limits of its interval."""

    count: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The rate, count / total."""
        return self.count / self.total


@lru_cache(maxsize=4096)
def wilson(count: int, total: int, confidence: float = 0.95) -> Rate:
    """Wilson's score interval of a binomial rate (Wilson 1927): right at 0 and 1 too, where a bootstrap has no width.

    Raises:
        StatisticsError: Nothing was counted.
    """
    if not 0 <= count <= total or total < 1:
        raise StatisticsError(f"there is no rate of {count} in {total}")
    limits = stats.binomtest(count, total).proportion_ci(confidence, method="wilson")
    return Rate(count, total, float(limits.low), float(limits.high))


def newcombe(before: Floats, after: Floats, confidence: float = 0.95) -> Estimate:
    """Newcombe's square-and-add interval of a difference of two paired rates, after − before.

    Method 10 of Newcombe 1998, Statistics in Medicine 17:2635: Wilson's limits of both rates, put together with their
    correlation φ, which is corrected for continuity where it is positive. It has width where every pair changes alike,
    or none does, as a bootstrap has not.

    Args:
        before: 1.0 for a success, else 0.0: float64 (pairs,).
        after: The same of the same items, in the same order.
        confidence: Two-sided.

    Raises:
        StatisticsError: No pairs, or not as many in each.
    """
    size = _paired(before, after)
    both = int((before * after).sum())
    one, other = int(after.sum()), int(before.sum())
    neither = size - one - other + both
    variances = one * (size - one) * other * (size - other)
    covariance: float = both * neither - (one - both) * (other - both)
    if covariance > 0:
        covariance = max(covariance - size / 2, 0.0)
    correlation = covariance / sqrt(variances) if variances else 0.0
    p, q = wilson(one, size, confidence), wilson(other, size, confidence)

    def reach(a: float, b: float) -> float:
        return sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))

    difference = (one - other) / size
    low = difference - reach(p.value - p.low, q.high - q.value)
    high = difference + reach(p.high - p.value, q.value - q.low)
    return Estimate(difference, low, high)


def rate(flags: Floats, samples: int = 1, *, confidence: float = 0.95, seed: int = 0) -> Rate:
    """The share of responses that are flagged, when each prompt has `samples` of them.

    With one each, the interval is Wilson's. With several, the prompts are bootstrapped; where all responses are alike,
    so that this has no width, the interval is Wilson's of that many prompts.

    Args:
        flags: 1.0 or 0.0 for each response, (prompts * samples,), those to one prompt together.
        samples: Responses to each prompt.
        confidence: Two-sided.
        seed: Of the bootstrap.

    Raises:
        StatisticsError: There are none.
    """
    count, total = int(flags.sum()), len(flags)
    if samples == 1:
        return wilson(count, total, confidence)
    prompts = by_prompt(flags, samples)
    if count in (0, total):
        limits = wilson(count // samples, len(prompts), confidence)
        return Rate(count, total, limits.low, limits.high)
    interval = bootstrap(mean, prompts.mean(-1), confidence=confidence, seed=seed)
    return Rate(count, total, interval.low, interval.high)


def rate_difference(
    before: Floats, after: Floats, samples: int = 1, *, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """Difference of two rates on the same prompts, after − before.

    With one response to each prompt, Newcombe's interval. With several, the prompts are bootstrapped; where each side's
    responses are all alike, the interval is Newcombe's of that many prompts.

    Args:
        before: 1.0 or 0.0 for each response, as for `rate`.
        after: The same of responses to the same prompts.
        samples: Responses to each prompt.
        confidence: Two-sided.
        seed: Of the bootstrap.

    Raises:
        StatisticsError: No pairs, or not as many in each.
    """
    _paired(before, after)
    if samples == 1:
        return newcombe(before, after, confidence)
    one, other = by_prompt(before, samples), by_prompt(after, samples)
    if (one == one[0, 0]).all() and (other == other[0, 0]).all():
        return newcombe(one[:, 0], other[:, 0], confidence)
    return bootstrap(mean_difference, one.mean(-1), other.mean(-1), confidence=confidence, seed=seed)


def by_prompt(values: Floats, samples: int) -> Floats:
    """(prompts * samples,) → (prompts, samples).

    Raises:
        StatisticsError: There are none, or the last prompt has fewer than the others.
    """
    if samples < 1 or not len(values) or len(values) % samples:
        raise StatisticsError(f"{len(values)} responses are not {samples} to each of some prompts")
    return values.reshape(-1, samples)


def bootstrap(
    statistic: Callable[..., Floats],
    *data: Floats,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Percentile bootstrap interval (Efron 1979) of a statistic; paired: every resample takes the same items of each.

    Args:
        statistic: Arrays of shape (…, n), one for each of `data`, → (…): computed along the last axis.
        data: float64 (n,) each.
        confidence: Of the interval.
        resamples: Number of resamples.
        seed: Of the resampling.

    Raises:
        StatisticsError: No items, or not as many in each.
    """
    size = _paired(*data)
    value = float(statistic(*data))
    if size == 1:  # every resample is the sample; scipy takes no single item
        return Estimate(value, value, value)
    interval = stats.bootstrap(
        data,
        lambda *drawn, axis: statistic(*drawn),
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=confidence,
        n_resamples=resamples,
        batch=max(1, _BATCH // size),
        rng=seed,
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high))


def mean(values: Floats) -> Floats:
    """Mean along the last axis."""
    return values.mean(-1)


def mean_difference(before: Floats, after: Floats) -> Floats:
    """Mean of after − before along the last axis."""
    return (after - before).mean(-1)


def _paired(*data: Floats) -> int:
    size = len(data[0])
    if size == 0 or any(len(each) != size for each in data):
        raise StatisticsError(f"paired items are needed; there are {', '.join(str(len(each)) for each in data)}")
    return size
