"""Strength: how far components are dampened, from scores and one number, and how that number is found by ablation.

A component whose cut gains B against a behaviour and costs F in general is best left with the gate
g = 1 − clip(λ · B / (F + ε), 0, 1), where gain is linear and cost quadratic in 1 − g: what a contrast with the cost
scores, times a strength λ. Gates are rounded to {0, ¼, ½, 1}, powers of two, by which weights of any type are
multiplied without an error.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from correction.attribution.relevance import Relevance
from correction.selection.top_k import select

Gated = Mapping[str, NDArray[np.int64] | Mapping[int, float]]
"""Name of a score → the components that are cut, or each with its gate."""

_LIMITS = np.array([0.25, 0.625, 0.875])
_GATES = np.array([1.0, 0.5, 0.25, 0.0])


def gates_from_scores(dampened: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 − g for any number, clipped and rounded to the grid → g; 1 where it is not a number."""
    return np.where(np.isnan(dampened), 1.0, _GATES[np.searchsorted(_LIMITS, dampened)])


def graded_gates(scores: Relevance, strength: float) -> dict[str, dict[int, float]]:
    """Gates by scores of which the smallest are cut, only where they are not 1; those over 0 are left alone."""
    gates = {}
    for name, score in scores.scores.items():
        gated = gates_from_scores(-strength * score.double().view(-1).numpy())
        if len(places := np.flatnonzero(gated < 1)):
            gates[name] = dict(zip(places.tolist(), gated[places].tolist(), strict=True))
    return gates


def trained_gates(scores: Relevance, amount: float) -> dict[str, dict[int, float]]:
    """Gates as they were trained, or more or less of them.

    Args:
        scores: −(1 − g) of each trained gate g.
        amount: 1 for the gates as they are. Over 1, scores are scaled by it. Under 1, it is the share of the gates that
            stay, those that dampen most: to scale scores down would let go at once of all that lie just over a limit of
            rounding.
    """
    gates = graded_gates(scores, max(1.0, amount))
    order = sorted((float(scores.scores[name].view(-1)[at]), name, at) for name, gated in gates.items() for at in gated)
    kept: dict[str, dict[int, float]] = {}
    for _, name, at in order[: round(min(1.0, amount) * len(order))]:
        kept.setdefault(name, {})[at] = gates[name][at]
    return {name: dict(sorted(gated.items())) for name, gated in kept.items()}


def hard_gates(scores: Relevance, count: float) -> dict[str, NDArray[np.int64]]:
    """The first `count` in the order of the scores, cut."""
    return select(scores, count=round(count))


def union_gates(one: Gated, other: Gated) -> Gated:
    """What either dampens, by the smaller gate."""
    joined = dict(one)
    for name, added in other.items():
        if name not in joined:
            joined[name] = added
        elif isinstance(added, np.ndarray):
            joined[name] = np.union1d(np.fromiter(joined[name], np.int64), added)
        else:
            known = dict(joined[name])  # weights are arrays, and have no gates
            joined[name] = dict(sorted((known | {at: min(g, known.get(at, 1.0)) for at, g in added.items()}).items()))
    return joined


def gated_count(gated: Gated) -> int:
    """Components that are cut or dampened."""
    return sum(len(places) for places in gated.values())


def find_dose(
    at: Callable[[float], Gated],
    spent: Callable[[Gated], float],
    *,
    start: float,
    most: float,
    tries: int = 5,
    power: float = 1.3,
) -> float | None:
    """The largest amount found that spends no more than there is; None where not even a hundredth of the start does.

    What is spent grows about as a power of the amount, so that each try is where the last one puts the limit.

    Args:
        at: An amount to the gates that it makes.
        spent: Gates to the part of the budget that they spend, measured by ablation.
        start: The first amount.
        most: The largest amount.
        tries: Most ablations.
        power: Exponent by which spending is assumed to grow with the amount.
    """
    low, high, amount = 0.0, np.inf, min(start, most)
    for _ in range(tries):
        value = spent(at(amount))
        if value > 1:
            high = amount
        else:
            low = amount
            if value >= 0.85 or amount >= most:
                break
        factor = (0.95 / value) ** (1 / power) if value > 0.02 else 8.0
        amount = min(amount * min(8.0, max(0.1, factor)), most)
        if not low < amount < high:
            amount = (low * high) ** 0.5 if low else high / 4
        if high < 1.03 * low or amount < start / 100:
            break
    return low or None
