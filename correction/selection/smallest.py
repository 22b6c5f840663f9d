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
        scores: float32 tensors on the CPU, of any shape; `count` from 1 to their number.

    Returns:
        Name → flat indices, int64, ascending; only where something is taken.

    Raises:
        SelectionError: fewer than `count` scores are numbers.
    """
    flat = {name: _array(score).reshape(-1) for name, score in scores.items()}
    limit, below = _limit(flat, count)
    ties = count - below
    found = np.empty(count, np.int64)
    done, taken = 0, {}
    for name, values in flat.items():
        first = done
        for start, chunk in _chunks(values):
            here = np.flatnonzero(chunk <= limit if ties else chunk < limit)
            if ties and here.size:
                tied = chunk[here] == limit
                here = here[~tied | (np.cumsum(tied) <= ties)]
                ties -= min(ties, int(np.count_nonzero(tied)))
            np.add(here, start, out=found[done : done + here.size])
            done += here.size
        if done > first:
            taken[name] = found[first:done]
    return taken


def k_smallest_in_rows(name: str, scores: Tensor, count: int, extra: int = 0) -> Indices:
    """The `count` smallest scores of every row; of the first `extra` rows one more. Ties and NaN as in `k_smallest`.

    Args:
        name: of the scores, for messages.
        scores: float32 (rows, columns) on the CPU; 0 ≤ count ≤ columns, and under columns where `extra` is not 0.

    Returns:
        Flat indices, int64, ascending: rows · count + extra of them.

    Raises:
        SelectionError: a row with fewer numbers than are to be taken of it.
    """
    values = _array(scores)
    rows, columns = values.shape
    found = np.empty(rows * count + extra, np.int64)
    done, step = 0, max(1, _CHUNK // max(1, columns))
    for first, last, share in ((0, extra, count + 1), (extra, rows, count)):
        for start in range(first, last if share else first, step):
            block = values[start : min(start + step, last)]
            here = np.flatnonzero(_smallest_of_each(name, start, block, share))
            np.add(here, start * columns, out=found[done : done + here.size])
            done += here.size
    return found


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


def _limit(flat: Mapping[str, Scores], count: int) -> tuple[float, int]:
    """The count-th smallest score, and how many are smaller."""
    total = sum(values.size for values in flat.values())
    room = max(_POOL, total // 64)
    lower, upper = -inf, inf  # the limit is in here, ends included
    outside_low, under_upper = 0, total  # at most `lower` (or fewer), under `upper` (or more)
    low, high = _bracket(list(flat.values()), total, count)
    while True:
        seen = _count(flat, low, high, room)
        if count > seen.at_most_high:
            if upper == inf:  # perhaps there is no such score
                under_upper = seen.at_most_high if high == inf else _count(flat, inf, inf, 0).at_most_high
                if count > under_upper:
                    raise _too_few(flat, under_upper, total, count)
            lower, outside_low = high, seen.at_most_high
        elif count > seen.under_high:
            return high, seen.under_high
        elif count > seen.at_most_low:
            if seen.between is not None:
                rank = count - seen.at_most_low - 1
                limit = float(np.partition(seen.between, rank)[rank])
                return limit, seen.at_most_low + int(np.count_nonzero(seen.between < limit))
            lower, upper, outside_low, under_upper = low, high, seen.at_most_low, seen.under_high
        elif count > seen.under_low:
            return low, seen.under_low
        else:
            upper, under_upper = low, seen.under_low
        # no more than `room` between them, or neighbouring numbers: gathering will do; else halve what is between
        if under_upper - outside_low <= room or _key(upper) - _key(lower) <= 1:
            low, high = lower, upper
        else:
            low = high = _value((_key(lower) + _key(upper)) // 2)


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
