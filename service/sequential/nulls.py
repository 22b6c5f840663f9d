"""The infimum of the mixture over the null: every stratum's free rate is put where the evidence is least.

A stratum's rate is searched on a grid around its likeliest value, a quarter of a standard error apart near it and ever
farther apart up to the ends of what is possible, then on finer grids around the least values.

Several strata share the effect only. To search all of their rates together would be to trust a local minimum, so a
lower bound is taken, which is as valid. For any weights ``q`` on the effects (Gibbs' inequality),

    log Σ_j G_j·Π_s R_s(ε_j, θ_s) >= Σ_j q_j·log(G_j / q_j) + Σ_s Σ_j q_j·log R_s(ε_j, θ_s),

and on the right each stratum has its own infimum. The best ``q`` solves a concave problem, here by conditional
gradients (Frank and Wolfe 1956); the bound then lies a few hundredths below the infimum of the left side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import entr, logsumexp

from service.sequential.effects import Effects
from service.sequential.ratios import Array, Cells, log_ratios

_NEAR = np.arange(-8.0, 8.25, 0.25)
_FAR = 1.4
_EDGE = 3e-6 * 1.6 ** np.arange(25)
"""Angles near the ends, where evidence can fall on and on while the smallest of the effects are cut off."""
_ZOOMS = (2, 12)
"""Of finer grids after the first: no gain from this one on is an end, and so is the last."""
_PRECISE = 1e-8
_PARTS = 7
_CLOSE = 0.1
"""A local minimum of the grid that lies higher than the least by more cannot be the least of all."""
_ROUNDS = 60
_ENOUGH = 0.02
_WIDEST = 0.4
"""The widest standard error that the grid is made for."""


def evidence(strata: Sequence[Cells], difference: float, effects: Effects) -> float:
    """``log inf M`` over the free rates of all strata; see `rates`. Raises ValueError for an impossible difference."""
    if not -1 <= difference <= 1:
        raise ValueError(f"difference {difference}: two rates differ by −1 to 1")
    told = [cells for cells in strata if cells.control_trials or cells.treatment_trials]
    searches = [_Search(cells, difference, effects) for cells in told]
    if len(searches) == 1:
        return searches[0].least(lambda table: logsumexp(table + effects.log_masses, axis=1))
    if any(np.isinf(search.table).all() for search in searches):
        return math.inf
    return _common(searches, effects) if searches else 0.0


def likeliest(cells: Cells, difference: float) -> float:
    """The control's rate at which ``(rate, rate + difference)`` makes the counts likeliest."""
    if difference == 0:
        return (cells.control + cells.treatment) / (cells.control_trials + cells.treatment_trials)
    low, high = max(0.0, -difference), min(1.0, 1 - difference)
    left, right = 0.0, math.pi
    for _ in range(50):  # bisection: the log-likelihood is concave in the rate
        middle = (left + right) / 2
        rate = low + (high - low) * math.sin(middle / 2) ** 2
        left, right = (middle, right) if _slope(cells, rate, rate + difference) > 0 else (left, middle)
    return low + (high - low) * math.sin((left + right) / 4) ** 2


def _slope(cells: Cells, a: float, b: float) -> float:
    """Derivative of the log-likelihood along the null."""
    total, (k_a, n_a, k_b, n_b, _) = 0.0, cells
    for events, trials, rate in ((k_a, n_a, a), (k_b, n_b, b)):
        total += events / max(rate, 1e-300) - (trials - events) / max(1 - rate, 1e-300)
    return total


class _Search:
    """One stratum's grid of free rates and its table of log ratios [grid, effects].

    Rates are told by an angle ψ, ``rate = low + (high − low)·sin²(ψ/2)``: near the ends, too, an even grid fits.
    """

    def __init__(self, cells: Cells, difference: float, effects: Effects) -> None:
        self._cells, self._difference, self._effects = cells, difference, effects
        self._low, self._high = max(0.0, -difference), min(1.0, 1 - difference)
        reach = self._high - self._low
        place = (likeliest(cells, difference) - self._low) / reach if reach > 0 else 0.0
        centre = 2 * math.asin(math.sqrt(min(max(place, 0.0), 1.0)))
        error = self._error(min(max(centre, 1e-4), math.pi - 1e-4))
        far = _NEAR[-1] * _FAR ** np.arange(1, max(2, math.ceil(math.log(math.pi / error / _NEAR[-1], _FAR)) + 1))
        offsets = np.concatenate([-far[::-1], _NEAR, far]) * error
        angles = np.concatenate([np.clip(centre + offsets, 0, math.pi), _EDGE, math.pi - _EDGE])
        self._angles = np.unique(angles)
        self.table = self._ratios(self._angles)
        self.likely = int(np.abs(self._angles - centre).argmin())

    def _error(self, angle: float) -> float:
        """How far the angle can be moved until the likelihood tells: about its standard error."""
        reach = self._high - self._low
        rate = self._low + reach * math.sin(angle / 2) ** 2
        curvature, (k_a, n_a, k_b, n_b, _) = 0.0, self._cells
        for events, trials, one in ((k_a, n_a, rate), (k_b, n_b, rate + self._difference)):
            curvature += events / max(one, 1e-140) ** 2 + (trials - events) / max(1 - one, 1e-140) ** 2
        slope = abs(_slope(self._cells, rate, rate + self._difference))
        information = curvature * (rate - self._low) * (self._high - rate) + slope * reach / 2
        return min(_WIDEST, 1 / math.sqrt(max(information, 1e-300)))

    def _ratios(self, angles: Array) -> Array:
        rates = self._low + (self._high - self._low) * np.sin(angles / 2) ** 2
        return log_ratios(self._cells, rates, self._difference, self._effects)

    def least(self, value: Callable[[Array], Array]) -> float:
        """Infimum, over the free rate, of a value of the table's rows."""
        angles, values = self._angles, value(self.table)
        least = float(values.min())
        for n in range(_ZOOMS[1] if math.isfinite(least) else 0):
            beside = np.concatenate([[math.inf], values, [math.inf]])
            local = np.flatnonzero((values <= beside[:-2]) & (values <= beside[2:]) & (values <= least + _CLOSE))
            local = local[np.argsort(values[local])][:6]
            here, last = angles[local], len(angles) - 1
            left, right = angles[np.maximum(local - 1, 0)], angles[np.minimum(local + 1, last)]
            angles = np.unique([np.linspace(left, here, _PARTS), np.linspace(here, right, _PARTS)])
            values = value(self._ratios(angles))
            before, least = least, min(least, float(values.min()))
            if n >= _ZOOMS[0] and least > before - _PRECISE:
                break
        return least


def _common(searches: list[_Search], effects: Effects) -> float:
    """The lower bound for several strata."""
    tables = [np.minimum(search.table, 1e12) for search in searches]  # impossible points: far from least, and finite
    mean = sum(table[search.likely] for table, search in zip(tables, searches, strict=True))
    best, weights = -math.inf, np.exp(effects.log_masses)
    for n in range(_ROUNDS):
        posterior = effects.log_masses + mean
        above = float(logsumexp(posterior))
        q = np.exp(posterior - above)
        products = [table @ q for table in tables]
        bound = float((entr(q) + q * effects.log_masses).sum() + sum(product.min() for product in products))
        if bound > best:
            best, weights = bound, q
        if above - best < _ENOUGH:
            break
        corner = sum(table[product.argmin()] for table, product in zip(tables, products, strict=True))
        mean = mean + (corner - mean) * (2 / (n + 3))
    constant = float((entr(weights) + weights * effects.log_masses).sum())
    return constant + sum(search.least(lambda table: np.minimum(table, 1e12) @ weights) for search in searches)
