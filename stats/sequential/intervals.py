"""Confidence sequences for rates and their difference: intervals that hold at all times at once.

Each is what its e-process has not rejected, so interval and test never disagree: a value on an end, or beyond it, is
rejected at level α, and with probability 1 − α the truth is rejected at no time whatever (Howard et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from scipy.optimize import minimize_scalar
from scipy.special import betaln

from stats.sequential.counts import Count, Stratum, checked_alpha
from stats.sequential.likelihood_ratios import log_likelihood
from stats.sequential.rates import log_e_value, log_e_value_at_most

Height = Callable[[float], float]
"""By how much the evidence against a value exceeds what rejects it."""

_TOLERANCE = 2e-3
"""Ends are found to this part of the way to them, and put outwards."""
_COARSE = 1e-2
"""The same of a difference, where each look at an end costs milliseconds."""
_HAIR = 1e-12
"""An end is at least so far from 0 where 0 is not rejected."""
_STEEP = 1e3
"""A height from which on it says nothing of where its root is."""
_MOST_STEPS = 60


def rate_log_e_value(events: float, trials: float, rate: float) -> float:
    """Logarithm of the e-value against one rate: a Beta(½, ½) mixture (Robbins 1970); inf where it is impossible."""
    mixture = betaln(events + 0.5, trials - events + 0.5) - betaln(0.5, 0.5)
    return float(mixture - log_likelihood(events, trials, rate))


def rate_interval(count: Count, alpha: float) -> tuple[float, float]:
    """Bounds of one rate, at all times at once with probability `1 − alpha`; (0, 1) without trials."""
    limit = -math.log(checked_alpha(alpha))

    def height(rate: float) -> float:
        return rate_log_e_value(count.events, count.trials, rate) - limit

    if not count.trials:
        return 0.0, 1.0
    width = 4 * math.sqrt(_spread(count) / count.trials)
    return _end(height, count.rate, 0.0, width), _end(height, count.rate, 1.0, width)


def difference_interval(strata: Sequence[Stratum], alpha: float) -> tuple[float, float]:
    """Bounds of `rate_treatment − rate_control`, the same in every stratum; (−1, 1) without data.

    Where the strata contradict each other so much that no common difference is left, the bounds are those that hold for
    the differences of all strata, and so for every average of them, at once: each stratum's own interval at
    `alpha` over their number, from the lowest end to the highest.
    """
    limit = -math.log(checked_alpha(alpha))
    observed = [stratum for stratum in strata if stratum.control.trials and stratum.treatment.trials]
    if not observed:
        return -1.0, 1.0

    def height(difference: float) -> float:
        return log_e_value(strata, difference) - limit

    centre, width = estimate(observed)
    if height(centre) >= 0:
        differences = [stratum.treatment.rate - stratum.control.rate for stratum in observed]
        centre = float(minimize_scalar(height, bounds=(min(differences), max(differences)), method="bounded").x)
        if height(centre) >= 0:
            ends = [difference_interval([stratum], alpha / len(observed)) for stratum in observed if len(observed) > 1]
            return min((low for low, _ in ends), default=-1.0), max((high for _, high in ends), default=1.0)
    low, high = (_end(height, centre, last, width, _COARSE) for last in (-1.0, 1.0))
    if height(0.0) < 0:  # rounding must not tell another thing about 0 than the test does
        return min(low, -_HAIR), max(high, _HAIR)
    return (max(low, 0.0), high) if centre > 0 else (low, min(high, 0.0))


def difference_lower_bound(strata: Sequence[Stratum], alpha: float) -> float:
    """What `rate_treatment − rate_control` exceeds, in one stratum at least.

    At all times at once, with probability `1 − alpha`: the largest difference `d` for which "at most `d` in every
    stratum" is rejected; −1 where none is.
    """
    limit = -math.log(checked_alpha(alpha))
    observed = [stratum for stratum in strata if stratum.control.trials and stratum.treatment.trials]
    if not observed:
        return -1.0

    def height(difference: float) -> float:
        return log_e_value_at_most(strata, difference) - limit

    highest = max(stratum.treatment.rate - stratum.control.rate for stratum in observed)
    low = _end(height, highest, -1.0, estimate(observed)[1])
    return max(low, 0.0) if height(0.0) >= 0 else min(low, -_HAIR)


def estimate(strata: Sequence[Stratum]) -> tuple[float, float]:
    """The difference, averaged over strata by harmonic weights, and about how far an interval reaches from it."""
    total = variance = mean = 0.0
    for stratum in strata:
        a, b = stratum.control, stratum.treatment
        weight = a.trials * b.trials / (a.trials + b.trials)
        total, mean = total + weight, mean + weight * (b.rate - a.rate)
        variance += weight**2 * (_spread(a) / a.trials + _spread(b) / b.trials)
    return mean / total, 4 * math.sqrt(variance) / total


def _spread(count: Count) -> float:
    """Variance of one trial, not 0 where events are not seen yet."""
    return (count.events + 1) * (count.trials - count.events + 1) / (count.trials + 2) ** 2


def _end(height: Height, inside: float, last: float, width: float, precise: float = _TOLERANCE) -> float:
    """Where `height` becomes positive on the way from `inside` to `last`, or a little beyond; else `last`."""
    end = crossing(height, inside, last, width, precise=precise)
    return last if end is None else end


def crossing(
    height: Height, inside: float, last: float, step: float, *, precise: float, power: float = 2.0, growth: float = 1.5
) -> float | None:
    """A place where `height` is not negative, beyond the root by at most `precise` of the way; None where none is.

    Args:
        height: negative at `inside`, and from its root to `last` not negative.
        inside: where the way begins.
        last: where it ends.
        step: about how far the root is; with `power` 2, four standard errors.
        precise: part of the way from `inside` to the root.
        power: `height` grows about with this power of the way: evidence with the square of a difference.
        growth: factor between steps until the root is passed.
    """
    sign, near, low = 1.0 if last > inside else -1.0, inside, height(inside)
    if power == 2.0:  # a normal likelihood's, and a quarter more, for the mixture adapts
        step *= 1.25 * math.sqrt(2 * -low) / 4
    far = inside + sign * min(step, abs(last - inside))
    high = height(far)
    while high < 0:
        if far == last:
            return None
        step *= growth
        near, low, far = far, high, far + sign * min(step, abs(last - far))
        high = height(far)
    short = False
    for n in range(_MOST_STEPS):
        tolerance = precise * abs(far - inside)
        if abs(far - near) <= tolerance:
            break
        # False position, on the scale on which the height is nearly a line, and a hair on; or the middle.
        a, b = abs(near - inside) ** power, abs(far - inside) ** power
        part = -low / (high - low) if high < _STEEP and n % 6 < 5 else 0.5
        way = (a + (b - a) * part) ** (1 / power) + 0.45 * tolerance
        place = inside + sign * min(way, abs(far - inside) - tolerance / 2)
        value = height(place)
        if value < 0:
            near, low = place, value
            high = high / 2 if short else high  # Illinois: or the far end would stay for long
            short = True
            continue
        far, high, short = place, value, False
        if n or precise >= _COARSE:
            before = far - sign * 0.9 * tolerance
            value = height(before) if abs(before - inside) > abs(near - inside) else low
            if value < 0:
                break
            far, high = before, value
    return far
