"""What an experiment can see by now, and how much longer it needs: the e-value of expected counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stats.sequential.counts import Stratum, checked_alpha
from stats.sequential.effect_prior import EITHER
from stats.sequential.intervals import crossing, estimate
from stats.sequential.likelihood_ratios import Cells
from stats.sequential.null_infimum import evidence

_MOST = 10**9
_PRECISE = 0.02
"""Answers are found to this part of themselves."""


def minimum_detectable(strata: Sequence[Stratum], alpha: float) -> float | None:
    """The smallest difference of the treatment's rate, up or down, that would be seen by now at level `alpha`.

    Absolute. Every stratum keeps its trials; the control's rate is that of both variants together, the treatment's
    differs from it. None where no difference could be seen yet.
    """
    limit = -math.log(checked_alpha(alpha))
    observed = [Cells.of(stratum) for stratum in strata if stratum.control.trials and stratum.treatment.trials]
    if not observed:
        return None
    rates = [(cells.control + cells.treatment) / (cells.control_trials + cells.treatment_trials) for cells in observed]
    width = estimate([stratum for stratum in strata if stratum.control.trials and stratum.treatment.trials])[1]

    def least(sign: float, most: float) -> float | None:
        def height(size: float) -> float:
            return evidence([_moved(cells, sign * size) for cells in observed], 0.0, EITHER) - limit

        return crossing(height, 0.0, most, width, precise=_PRECISE) if most > 0 else None

    differences = least(-1.0, max(rates)), least(1.0, 1 - min(rates))
    return min((difference for difference in differences if difference is not None), default=None)


def responses_needed(strata: Sequence[Stratum], alpha: float, margin: float) -> int | None:
    """How many more responses, of both variants together, a decision at level `alpha` takes if rates stay so.

    Until a difference of `margin` is rejected: of the sign of the observed one where that is beyond it, else of both
    signs, so that what is left does not matter. Responses to come are put to the last stratum, at its share and at the
    observed rates; the answer is right to 2%. 0 where it is decided; None where 10⁹ would not do, or where a variant
    has no data.
    """
    limit = -math.log(checked_alpha(alpha))
    observed = [stratum for stratum in strata if stratum.control.trials and stratum.treatment.trials]
    if not observed:
        return None
    difference = estimate(observed)[0]
    rejected = (math.copysign(margin, difference),) if abs(difference) > margin else (-margin, margin)
    weights = [
        one.control.trials * one.treatment.trials / (one.control.trials + one.treatment.trials) for one in observed
    ]
    control = sum(w * one.control.rate for w, one in zip(weights, observed, strict=True)) / sum(weights)
    treatment = min(1.0, max(0.0, control + difference))
    cells = [Cells.of(stratum) for stratum in strata]

    def height(more: float) -> float:
        a, n_a, b, n_b, share = cells[-1]
        new_a, new_b = more * (1 - share), more * share
        last = Cells(a + new_a * control, n_a + new_a, b + new_b * treatment, n_b + new_b, share)
        return min(evidence([*cells[:-1], last], null, EITHER) for null in rejected) - limit

    if margin == 0 == difference:
        return None
    now = height(0.0)
    if now >= 0:
        return 0
    have = sum(one.control.trials + one.treatment.trials for one in observed)
    step = have * min(3.0, -now / max(now + limit, limit / 4))  # evidence grows about with the number of responses
    responses = crossing(height, 0.0, float(_MOST), max(step, 10.0), precise=_PRECISE, power=1.0, growth=3.0)
    return None if responses is None else math.ceil(responses)


def _moved(cells: Cells, difference: float) -> Cells:
    """The counts expected with such a difference, as far as rates allow it."""
    rate = (cells.control + cells.treatment) / (cells.control_trials + cells.treatment_trials)
    treatment = min(1.0, max(0.0, rate + difference)) * cells.treatment_trials
    return cells._replace(control=rate * cells.control_trials, treatment=treatment)
