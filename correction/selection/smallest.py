"""The smallest of many scores: exact, without sorting them, in memory for the result and one chunk.

Two passes over the scores as a rule. A strided sample brackets the limit (the count-th smallest score); the first pass
counts what lies outside the bracket and gathers what lies inside, where a partition finds the limit; the second pass
writes down the indices. A bracket that misses, or holds too much to gather, is mended by bisection over the float32
values, which ends after 32 more passes at the worst: no order or repetition of scores makes it inexact.

numpy, not torch: on two cores its comparisons and partition are the faster ones for chunks that fit the cache
(benchmarks/selection.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, sqrt

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from correction.errors import SelectionError

Scores = NDArray[np.float32]
Indices = NDArray[np.int64]

_CHUNK = 1 << 18  # scores looked at together: 1 MiB
_SAMPLE = 1 << 20
_POOL = 1 << 22  # scores gathered at most, or a 64th of all where that is more


def k_smallest(scores: Mapping[str, Tensor], count: int) -> dict[str, Indices]:
    """The `count` smallest of all scores together.

    Of equal scores (−0 equals 0) at the limit, those that come first are taken; a NaN never is.

    Args:
        scores: float32 tensors on the CPU, of any shape.
        count: From 1 to the number of all scores.

    Returns:
        Name → flat indices, int64, ascending; only where something is taken.

    Raises:
        SelectionError: Fewer than `count` scores are numbers.
    """
    flat = {name: _array(score).reshape(-1) for name, score in scores.items()}
    limit, below = _limit(flat, count)
    ties = count - below
    indices = np.empty(count, np.int64)
    done, taken = 0, {}
    for name, values in flat.items():
        first = done
        for start, chunk in _chunks(values):
            here = np.flatnonzero(chunk <= limit if ties else chunk < limit)
            if ties and here.size:
                tied = chunk[here] == limit
                here = here[~tied | (np.cumsum(tied) <= ties)]
                ties -= min(ties, int(np.count_nonzero(tied)))
            np.add(here, start, out=indices[done : done + here.size])
            done += here.size
        if done > first:
            taken[name] = indices[first:done]
    return taken


def k_smallest_in_rows(name: str, scores: Tensor, count: int, extra: int = 0) -> Indices:
    """The `count` smallest scores of every row; of the first `extra` rows one more. Ties and NaN as in `k_smallest`.

    Args:
        name: Of the scores, for messages.
        scores: float32 (rows, columns) on the CPU.
        count: From 0 to `columns`; under `columns` where `extra` is not 0.
        extra: Number of rows, from the first, of which one more is taken.

    Returns:
        Flat indices, int64, ascending: rows · count + extra of them.

    Raises:
        SelectionError: A row with fewer numbers than are to be taken of it.
    """
    values = _array(scores)
    rows, columns = values.shape
    indices = np.empty(rows * count + extra, np.int64)
    done, step = 0, max(1, _CHUNK // max(1, columns))
    for first, last, share in ((0, extra, count + 1), (extra, rows, count)):
        for start in range(first, last if share else first, step):
            block = values[start : min(start + step, last)]
            here = np.flatnonzero(_smallest_of_each(name, start, block, share))
            np.add(here, start * columns, out=indices[done : done + here.size])
            done += here.size
    return indices


def _smallest_of_each(name: str, start: int, block: Scores, share: int) -> NDArray[np.bool_]:
    """Which scores are among the `share` smallest of their row."""
    limit = np.partition(block, share - 1, axis=1)[:, share - 1 : share]  # NaN sorts last
    if np.isnan(limit).any():
        row = int(np.flatnonzero(np.isnan(limit))[0])
        numbers = int(np.count_nonzero(~np.isnan(block[row])))
        raise SelectionError(
            f"{name}: in group {start + row} of {block.shape[1]} weights each, only {numbers} scores are numbers, and "
            f"{share} are to be cut; the model's outputs overflow: use float32 or bfloat16"
        )
    cut = block <= limit
    if np.count_nonzero(cut) > share * len(block):  # more ties at a limit than there is room for
        crowded = np.flatnonzero(cut.sum(axis=1) > share)
        tied = block[crowded] == limit[crowded]
        room = share - (block[crowded] < limit[crowded]).sum(axis=1, keepdims=True)
        cut[crowded] &= ~tied | (tied.cumsum(axis=1) <= room)
    return cut


@dataclass
class _Count:
    """Of all scores, how many are under and at most `low` and `high`, and those between (None: too many to gather)."""

    under_low: int
    at_most_low: int
    under_high: int
    at_most_high: int
    between: Scores | None


@dataclass
class _Interval:
    """Where the limit is: `lower` ≤ limit ≤ `upper`.

    Attributes:
        outside_low: Scores that are at most `lower`, or fewer.
        under_upper: Scores under `upper`, or more.
    """

    lower: float
    upper: float
    outside_low: int
    under_upper: int

    def narrowed(self, low: float, high: float, seen: _Count, count: int) -> "_Interval":
        """The part of it that holds the count-th smallest score, given what was counted at `low` and `high`."""
        if count > seen.at_most_high:
            return _Interval(high, self.upper, seen.at_most_high, self.under_upper)
        if count > seen.at_most_low:
            return _Interval(low, high, seen.at_most_low, seen.under_high)
        return _Interval(self.lower, low, self.outside_low, seen.under_low)

    def next_bracket(self, room: int) -> tuple[float, float]:
        """The two scores to count at next: its ends if what is between can be gathered, else its middle."""
        few = self.under_upper - self.outside_low <= room
        if few or _key(self.upper) - _key(self.lower) <= 1:
            return self.lower, self.upper
        middle = _value((_key(self.lower) + _key(self.upper)) // 2)
        return middle, middle


def _limit(flat: Mapping[str, Scores], count: int) -> tuple[float, int]:
    """The count-th smallest score, and how many are smaller."""
    total = sum(values.size for values in flat.values())
    room = max(_POOL, total // 64)
    interval = _Interval(-inf, inf, 0, total)
    low, high = _bracket(list(flat.values()), total, count)
    while True:
        seen = _count(flat, low, high, room)
        if (limit := _limit_in(seen, low, high, count)) is not None:
            return limit
        if count > seen.at_most_high and interval.upper == inf:  # perhaps there is no such score
            interval.under_upper = _check_enough(flat, total, count)
        interval = interval.narrowed(low, high, seen, count)
        low, high = interval.next_bracket(room)


def _limit_in(seen: _Count, low: float, high: float, count: int) -> tuple[float, int] | None:
    """The limit and how many scores are smaller, where it is `low`, `high` or among what was gathered between."""
    if seen.under_low < count <= seen.at_most_low:
        return low, seen.under_low
    if seen.under_high < count <= seen.at_most_high:
        return high, seen.under_high
    if seen.between is not None and seen.at_most_low < count <= seen.under_high:
        rank = count - seen.at_most_low - 1
        limit = float(np.partition(seen.between, rank)[rank])
        return limit, seen.at_most_low + int(np.count_nonzero(seen.between < limit))
    return None


def _check_enough(flat: Mapping[str, Scores], total: int, count: int) -> int:
    """How many scores are numbers.

    Raises:
        SelectionError: Fewer than `count`.
    """
    numbers = _count(flat, inf, inf, 0).at_most_high
    if count > numbers:
        raise _too_few(flat, numbers, total, count)
    return numbers


def _bracket(arrays: Sequence[Scores], total: int, count: int) -> tuple[float, float]:
    """Two scores with the limit most likely between them, five deviations of its rank in a strided sample away."""
    stride = max(1, total // _SAMPLE) | 1  # odd: not the same column of a matrix again and again
    pieces, position = [], 0
    for values in arrays:
        pieces.append(values[-position % stride :: stride])
        position += values.size
    sample = np.concatenate(pieces)
    size = sample.size
    sample = np.sort(sample[~np.isnan(sample)])
    rank = count / total * size
    spread = 5 * sqrt(max(0.0, rank * (1 - rank / size))) + 8
    first, last = floor(rank - spread), ceil(rank + spread)
    low = float(sample[first]) if 0 <= first < len(sample) else -inf
    high = float(sample[last]) if last < len(sample) else inf
    return low, high


def _count(flat: Mapping[str, Scores], low: float, high: float, room: int) -> _Count:
    seen = _Count(0, 0, 0, 0, None)
    pool: list[Scores] = []
    pooled = 0
    for values in flat.values():
        for _, chunk in _chunks(values):
            at_most_high = chunk <= high
            number = int(np.count_nonzero(at_most_high))
            if not number:
                continue
            seen.at_most_high += number
            if number < chunk.size // 8:
                chunk = chunk[at_most_high]  # the rest of the counting is of these alone
            seen.under_low += int(np.count_nonzero(chunk < low))
            at_most_low = chunk <= low
            seen.at_most_low += int(np.count_nonzero(at_most_low))
            under_high = chunk < high
            seen.under_high += int(np.count_nonzero(under_high))
            if low < high:
                between = under_high & ~at_most_low
                pooled += int(np.count_nonzero(between))
                if pooled <= room:
                    pool.append(chunk[between])
                else:
                    pool.clear()
    if pooled <= room:
        seen.between = np.concatenate([np.empty(0, np.float32), *pool])
    return seen


def _chunks(values: Scores) -> Iterator[tuple[int, Scores]]:
    for start in range(0, values.size, _CHUNK):
        yield start, values[start : start + _CHUNK]


def _array(score: Tensor) -> Scores:
    return score.detach().numpy()


def _key(value: float) -> int:
    """The float32 as an integer of the same order: neighbours are one apart, −0 and 0 the same."""
    bits = int(np.float32(value).view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def _value(key: int) -> float:
    size = float(np.int32(abs(key)).view(np.float32))
    return size if key >= 0 else -size


def _too_few(flat: Mapping[str, Scores], numbers: int, total: int, count: int) -> SelectionError:
    names = list(flat)
    where = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    if not numbers:
        return SelectionError(f"every score is NaN ({where}): the model's outputs overflow; use float32 or bfloat16")
    return SelectionError(
        f"only {numbers} of {total} scores are numbers ({where}), and {count} are wanted; the model's outputs "
        "overflow: use float32 or bfloat16"
    )
