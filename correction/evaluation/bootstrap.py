"""Intervals: Wilson's for one rate, the paired bootstrap for differences and for perplexity."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from correction.errors import EvaluationError

Floats = NDArray[np.float64]


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
        """count / total."""
        return self.count / self.total


def wilson(count: int, total: int, confidence: float = 0.95) -> Rate:
    """Wilson's score interval of a binomial rate (Wilson 1927): right at 0 and 1 too, where a bootstrap has no width.

    Raises:
        EvaluationError: nothing was counted.
    """
    if not 0 <= count <= total or total < 1:
        raise EvaluationError(f"there is no rate of {count} in {total}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = count / total
    centre = (rate + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    return Rate(count, total, max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half)))


def bootstrap(
    statistic: Callable[..., Floats],
    *data: Floats,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Percentile bootstrap interval (Efron 1979) of a statistic; paired: every resample takes the same items of each.

    Args:
        statistic: arrays of shape (…, n), one for each of `data`, → (…): computed along the last axis.
        data: float64 (n,) each.
        confidence: of the interval.
        resamples: number of resamples.
        seed: of the resampling.

    Raises:
        EvaluationError: no items, or not as many in each.
    """
    size = len(data[0])
    if size == 0 or any(len(each) != size for each in data):
        raise EvaluationError(f"paired items are needed; there are {', '.join(str(len(each)) for each in data)}")
    value = float(statistic(*data))
    drawn = [statistic(*(each[places] for each in data)) for places in _resampled(size, resamples, seed)]
    low, high = np.quantile(np.concatenate(drawn), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, float(low), float(high))


def mean(values: Floats) -> Floats:
    """Mean along the last axis."""
    return values.mean(-1)


def mean_difference(before: Floats, after: Floats) -> Floats:
    """Mean of after − before along the last axis."""
    return (after - before).mean(-1)


def _resampled(size: int, resamples: int, seed: int, budget: int = 1 << 22) -> Iterator[NDArray[np.int64]]:
    """Places drawn with replacement, (k, size) at a time, with about `budget` of them in memory."""
    generator = np.random.default_rng(seed)
    step = max(1, budget // size)
    for start in range(0, resamples, step):
        yield generator.integers(size, size=(min(step, resamples - start), size))
