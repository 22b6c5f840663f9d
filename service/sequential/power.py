"""What an experiment can see by now, and how much longer it needs: the e-value of expected counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from service.sequential.counts import Stratum, checked_alpha
from service.sequential.effects import EITHER
from service.sequential.intervals import estimate
from service.sequential.nulls import evidence
from service.sequential.ratios import Cells

_MOST = 10**9
_PRECISE = 0.01
"""Answers are found to this part of themselves."""


def minimum_detectable(strata: Sequence[Stratum], alpha: float) -> float | None:
    """The smallest difference of the treatment's rate, up or down, that would be seen by now at level ``alpha``.

    Absolute. Every stratum keeps its trials; the control's rate is that of both variants together, the treatment's
    differs from it. None where no difference could be seen yet.
    """
    limit = -math.log(checked_alpha(alpha))
    told = [Cells.of(stratum) for stratum in strata if stratum.control.trials and stratum.treatment.trials]

    def seen(difference: float) -> bool:
        return evidence([_moved(cells, difference) for cells in told], 0.0, EITHER) >= limit

    if not told:
        return None
    rates = [(cells.control + cells.treatment) / (cells.control_trials + cells.treatment_trials) for cells in told]
    down, up = max(rates), 1 - min(rates)
    found = _least(lambda size: seen(-size), 0.0, down), _least(seen, 0.0, up)
    return min((difference for difference in found if difference is not None), default=None)


def responses_needed(strata: Sequence[Stratum], alpha: float, margin: float) -> int | None:
    """How many more responses, of both variants together, a decision at level ``alpha`` takes if rates stay so.

    Where the observed difference is beyond ±``margin``: until equal rates are rejected. Within: until differences of
    ±``margin`` are, so that what is left does not matter. Responses to come are put to the last stratum, at its share
    and at the observed rates; the answer is right to a hundredth. 0 where it is decided; None where 10⁹ would not do,
    or where a variant has no data.
    """
    limit = -math.log(checked_alpha(alpha))
    told = [stratum for stratum in strata if stratum.control.trials and stratum.treatment.trials]
    if not told:
        return None
    difference = estimate(told)[0]
    rejected = (0.0,) if abs(difference) > margin else (-margin, margin)
    weights = [one.control.trials * one.treatment.trials / (one.control.trials + one.treatment.trials) for one in told]
    control = sum(w * one.control.rate for w, one in zip(weights, told, strict=True)) / sum(weights)
    treatment = min(1.0, max(0.0, control + difference))
    cells = [Cells.of(stratum) for stratum in strata]

    def decided(more: float) -> bool:
        a, n_a, b, n_b, share = cells[-1]
        new_a, new_b = more * (1 - share), more * share
        last = Cells(a + new_a * control, n_a + new_a, b + new_b * treatment, n_b + new_b, share)
        return all(evidence([*cells[:-1], last], null, EITHER) >= limit for null in rejected)

    if margin == 0 == difference:
        return None
    if decided(0):
        return 0
    have = sum(one.control.trials + one.treatment.trials for one in told)
    least = have / 100
    while not decided(least):
        if least >= _MOST:
            return None
        least = min(least * 3, float(_MOST))
    found = _least(decided, least / 3, least)
    return None if found is None else math.ceil(found)


def _moved(cells: Cells, difference: float) -> Cells:
    """The counts expected with such a difference, as far as rates allow it."""
    rate = (cells.control + cells.treatment) / (cells.control_trials + cells.treatment_trials)
    treatment = min(1.0, max(0.0, rate + difference)) * cells.treatment_trials
    return cells._replace(control=rate * cells.control_trials, treatment=treatment)


def _least(enough: Callable[[float], bool], low: float, high: float) -> float | None:
    """The least value from which on it is enough, by bisection; None where ``high`` is not."""
    if not enough(high):
        return None
    while high - low > _PRECISE * high:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
