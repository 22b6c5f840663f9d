"""What a circuit is worth: faithfulness, the areas under its curve, and their intervals over the rows of a task.

m is the mean over rows of logit(correct) − logit(wrong): m(N) of the model, m(C) of the circuit alone, m(∅) where none
of the universe is kept. Every interval is a bootstrap over rows, paired: each resample takes the same rows of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stats.estimates import Estimate, Floats, bootstrap, mean_difference

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Kept shares of the curve, as in MIB (Mueller et al. 2025)."""


def total_effect(model: Floats, nothing: Floats) -> Estimate:
    """m(N) − m(∅): what there is to be explained."""
    return bootstrap(mean_difference, nothing, model)


def is_defined(model: Floats, nothing: Floats) -> bool:
    """Whether faithfulness is: not where the interval of its denominator holds 0."""
    effect = total_effect(model, nothing)
    return effect.low > 0 or effect.high < 0


def faithfulness(circuit: Floats, model: Floats, nothing: Floats) -> Estimate | None:
    """(m(C) − m(∅)) / (m(N) − m(∅)): 1 where the circuit alone does what the model does, 0 where it does nothing.

    Args:
        circuit: Logit differences m(C) of the circuit alone: float64 (rows,).
        model: Logit differences m(N) of the model as it is: float64 (rows,).
        nothing: Logit differences m(∅) with the whole universe ablated: float64 (rows,).

    Returns:
        None where the interval of the denominator holds 0: what divides by nothing is no figure.
    """
    return bootstrap(_ratio, circuit, model, nothing) if is_defined(model, nothing) else None


def necessity(complement: Floats, model: Floats, nothing: Floats) -> Estimate | None:
    """(m(N) − m(N∖C)) / (m(N) − m(∅)): the share of what the model does that goes when the circuit alone is cut."""
    return bootstrap(_necessity, complement, model, nothing) if is_defined(model, nothing) else None


def distance(one: Floats, other: Floats, model: Floats, nothing: Floats) -> Estimate | None:
    """|m(A) − m(B)| / |m(N) − m(∅)| of two ways to cut a model."""
    return bootstrap(_distance, one, other, model, nothing) if is_defined(model, nothing) else None


def faithfulness_drop(circuit: Floats, smaller: Floats, model: Floats, nothing: Floats) -> Estimate | None:
    """(m(C) − m(C∖v)) / (m(N) − m(∅)): what a component of a circuit adds to its faithfulness."""
    return bootstrap(_drop, circuit, smaller, model, nothing) if is_defined(model, nothing) else None


@dataclass(frozen=True)
class Areas:
    """Areas of a curve of faithfulness f over kept shares k, by the trapezoid rule over k as it is.

    Attributes:
        performance: CPR of MIB, ∫ f dk: the more the better; over 1 where some circuits outdo the model.
        distance: CMD of MIB, ∫ |1 − f| dk: 0 of a circuit that is the model at every size.

    Both are divided by the width of the curve, .999, so that f = 1 everywhere gives exactly 1 and 0.
    """

    performance: Estimate
    distance: Estimate


def areas(shares: Sequence[float], curve: Sequence[Floats], model: Floats, nothing: Floats) -> Areas | None:
    """Areas of a curve, given the logit differences by row at each share, ascending; None as for `faithfulness`."""
    if not is_defined(model, nothing):
        return None
    x = np.array(shares)

    def area(values: list[Floats]) -> Floats:
        heights = np.stack(values, -1)
        total: Floats = ((heights[..., 1:] + heights[..., :-1]) / 2 * np.diff(x)).sum(-1) / (x[-1] - x[0])
        return total

    def performance(model: Floats, nothing: Floats, *points: Floats) -> Floats:
        return area([_ratio(each, model, nothing) for each in points])

    def off(model: Floats, nothing: Floats, *points: Floats) -> Floats:
        return area([abs(1 - _ratio(each, model, nothing)) for each in points])

    return Areas(bootstrap(performance, model, nothing, *curve), bootstrap(off, model, nothing, *curve))


def _ratio(circuit: Floats, model: Floats, nothing: Floats) -> Floats:
    m = nothing.mean(-1)
    ratio: Floats = (circuit.mean(-1) - m) / (model.mean(-1) - m)
    return ratio


def _necessity(complement: Floats, model: Floats, nothing: Floats) -> Floats:
    return 1 - _ratio(complement, model, nothing)


def _distance(one: Floats, other: Floats, model: Floats, nothing: Floats) -> Floats:
    return abs(_drop(one, other, model, nothing))


def _drop(circuit: Floats, smaller: Floats, model: Floats, nothing: Floats) -> Floats:
    drop: Floats = (circuit.mean(-1) - smaller.mean(-1)) / (model.mean(-1) - nothing.mean(-1))
    return drop
