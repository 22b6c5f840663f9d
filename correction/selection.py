"""Selection: scores → the components to cut, exactly as many as the budget says."""

from collections.abc import Iterator, Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from correction.errors import SelectionError
from correction.relevance import Relevance

Scope = Literal["global"]

_CHUNK = 1 << 22


def budget(total: int, granularity: str, *, count: int | None = None, fraction: float | None = None) -> int:
    """Number of components to cut of `total`, from one of the two; a fraction is rounded, and cuts at least 1.

    Raises:
        SelectionError: both or neither given, none or more than there are.
    """
    if (count is None) == (fraction is None):
        raise SelectionError("give a count or a fraction, and only one of them")
    if fraction is not None:
        if not 0 < fraction <= 1:
            raise SelectionError(f"fraction is {fraction}; it must be over 0 and at most 1")
        return max(1, round(fraction * total))
    if count is None or not 1 <= count <= total:
        raise SelectionError(f"count is {count}; this model has {total} {granularity}s to cut, so 1 to {total}")
    return count


def select(
    relevance: Relevance, *, count: int | None = None, fraction: float | None = None, scope: Scope = "global"
) -> dict[str, NDArray[np.int64]]:
    """The components with the smallest scores: exactly `budget` of them.

    Of equal scores at the limit, those that come first in component order are cut. A component whose score is not a
    number is never cut. Nothing is sorted: beside the scores this takes memory for twice the budget and one chunk.

    Args:
        relevance: scores, of which the smallest are cut.
        count, fraction: the budget.
        scope: `global`: all components compete.

    Returns:
        Name of the score → flat indices into it, int64, ascending; only where something is cut.

    Raises:
        SelectionError: a budget that does not fit, an unknown scope, or too few scores that are numbers.
    """
    if scope not in get_args(Scope):
        raise SelectionError(f"scope {scope!r} does not exist; there is: {', '.join(get_args(Scope))}")
    size = budget(len(relevance), relevance.granularity, count=count, fraction=fraction)
    limit = _largest_of_smallest(relevance, size)
    below = {name: _where(score, score.flatten() < limit) for name, score in relevance.scores.items()}
    left = size - sum(len(found) for found in below.values())
    selected = {}
    for name, score in relevance.scores.items():
        ties = _where(score, score.flatten() == limit)[:left] if left else np.empty(0, np.int64)
        left -= len(ties)
        found = below.pop(name)
        if ties.size:
            found = np.sort(np.concatenate([found, ties]), kind="stable")  # two ascending runs: one merge
        if found.size:
            selected[name] = found
    return selected


def components(
    selected: Mapping[str, NDArray[np.int64]],
) -> tuple[dict[int, NDArray[np.int64]], dict[str, NDArray[np.int64]]]:
    """Selected scores (`neurons.<layer>`, `weights.<parameter>`) as the neurons and weights of `masks.for_model`."""
    neurons = {int(name.removeprefix("neurons.")): cut for name, cut in selected.items() if name.startswith("neurons.")}
    weights = {name.removeprefix("weights."): cut for name, cut in selected.items() if name.startswith("weights.")}
    return neurons, weights


def _where(score: Tensor, flags: Tensor) -> NDArray[np.int64]:
    return flags.nonzero()[:, 0].cpu().numpy()


def _chunks(relevance: Relevance) -> Iterator[Tensor]:
    for score in relevance.scores.values():
        yield from score.flatten().split(_CHUNK)


def _largest_of_smallest(relevance: Relevance, size: int) -> float:
    """The size-th smallest score: candidates are pooled, and the pool cut back whenever it has doubled."""
    pool: list[NDArray[np.float32]] = []
    pooled, limit = 0, float("inf")
    for chunk in _chunks(relevance):
        pool.append(chunk[chunk <= limit].cpu().numpy())  # no NaN passes the comparison
        pooled += len(pool[-1])
        if pooled > 2 * size + _CHUNK:
            pool = [_smallest(pool, size)]
            pooled, limit = size, float(pool[0].max())
    if pooled < size:
        raise SelectionError(
            f"only {pooled} of {len(relevance)} scores are numbers, and {size} are to be cut; the model's outputs "
            "overflow: use float32 or bfloat16"
            if pooled
            else "every score is NaN: the model's outputs overflow; use float32 or bfloat16"
        )
    return float(_smallest(pool, size).max())


def _smallest(pool: list[NDArray[np.float32]], size: int) -> NDArray[np.float32]:
    values = np.concatenate(pool)
    values.partition(size - 1)
    return values[:size].copy()
