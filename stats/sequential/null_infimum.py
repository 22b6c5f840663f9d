"""The infimum of the mixture over the null: every stratum's free rate is put where the evidence is least.

A stratum's rate is searched on a grid around its likeliest value, half a standard error apart near it and ever
farther apart up to the ends of what is possible, then on finer grids around the least values. All strata are searched
at once, as rows of one table.

Several strata share the effect only. To search all of their rates together would be to trust a local minimum, so a
lower bound is taken, which is as valid. For any weights `q` on the effects (Gibbs' inequality),

    log Σ_j G_j·Π_s R_s(ε_j, θ_s) >= Σ_j q_j·log(G_j / q_j) + Σ_s Σ_j q_j·log R_s(ε_j, θ_s),

and on the right each stratum has its own infimum. The best `q` solves a concave problem, here by conditional
gradients (Frank and Wolfe 1956); the bound then lies a few hundredths below the infimum of the left side.

Effects that weigh next to nothing are left out, which lowers the sum too, by a thousandth at the likeliest rates: near
a decision a tenth of the effects is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from scipy.special import entr

from stats.sequential.effect_prior import Effects
from stats.sequential.likelihood_ratios import Array, Cells, log_ratios

_NEAR = np.arange(-8.0, 8.5, 0.5)
_FAR = 1.4
_EDGE = 3e-6 * 1.6 ** np.arange(25)
"""Angles near the ends, where evidence can fall on and on while the smallest of the effects are cut off."""
_ZOOMS = 12
"""The most finer grids after the first."""
_PARTS = 7
_CLOSE = 0.1
"""A local minimum of the grid that lies higher than the least by more cannot be the least of all."""
_MINIMA = 6
_ROUNDS = 60
_ENOUGH = 0.02
_NEGLIGIBLE = 1e-3
"""Share of the mixture that may be left out."""
_IMPOSSIBLE = 1e12
"""In place of the infinite log ratio of impossible points: far from least, and finite."""
_WIDEST = 0.4
"""The widest standard error that the grid is made for."""


def evidence(strata: Sequence[Cells], difference: float, effects: Effects) -> float:
    """`log inf M` over the free rates of all strata; see `rates`.

    Raises:
        ValueError: no two rates have this difference.
    """
    if not -1 <= difference <= 1:
        raise ValueError(f"difference {difference}: two rates differ by −1 to 1")
    observed = [cells for cells in strata if cells.control_trials or cells.treatment_trials]
    if not observed:
        return 0.0
    search = _Search(observed, difference, effects)
    if search.impossible:
        return math.inf
    if len(observed) == 1:
        return float(search.least(lambda table: _log_sum(table + search.log_masses))[0])
    return _common(search)


def _log_sum(logarithms: Array) -> Array:
    """Logarithm of the sum over the last axis; SciPy's takes many times as long on small arrays."""
    highest = logarithms.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # inf − inf: an impossible null, whose sum is inf
        sums = np.log(np.exp(logarithms - highest).sum(axis=-1)) + highest[..., 0]
    return np.where(np.isinf(highest[..., 0]), highest[..., 0], sums)


def likeliest(cells: Cells, difference: float) -> float:
    """The control's rate at which `(rate, rate + difference)` makes the counts likeliest."""
    if difference == 0:
        return (cells.control + cells.treatment) / (cells.control_trials + cells.treatment_trials)
    low, high = max(0.0, -difference), min(1.0, 1 - difference)
    left, right = 0.0, math.pi
    for _ in range(20):  # bisection: the log-likelihood is concave in the rate
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
    """The strata's grids of free rates, one after the other, and their table of log ratios [grid, effects].

    Rates are written as an angle ψ, `rate = low + (high − low)·sin²(ψ/2)`: near the ends, too, an even grid fits.
    """

    def __init__(self, strata: Sequence[Cells], difference: float, effects: Effects) -> None:
        self._difference, self._effects = difference, effects
        self._low, self._high = max(0.0, -difference), min(1.0, 1 - difference)
        self._numbers = [np.array(column, dtype=float) for column in zip(*strata, strict=True)]
        centres, grids = zip(*(self._grid(cells) for cells in strata), strict=True)
        self._angles = np.concatenate(grids)
        self._owner = np.repeat(np.arange(len(strata)), [len(grid) for grid in grids])
        self._kept = self._heavy(np.array(centres))
        self.log_masses = effects.log_masses[self._kept]
        self.table = self._ratios(self._angles, self._owner)
        starts = np.cumsum([0, *(len(grid) for grid in grids)])
        self.parts = [slice(start, end) for start, end in pairwise(starts)]
        self.likely = [
            part.start + int(np.abs(self._angles[part] - centre).argmin())
            for part, centre in zip(self.parts, centres, strict=True)
        ]

    @property
    def impossible(self) -> bool:
        """Whether a stratum's counts are impossible under each null."""
        return any(bool(np.isinf(self.table[part]).all()) for part in self.parts)

    def _grid(self, cells: Cells) -> tuple[float, Array]:
        """The likeliest angle of a stratum, and the angles at which it is looked at."""
        reach = self._high - self._low
        place = (likeliest(cells, self._difference) - self._low) / reach if reach > 0 else 0.0
        centre = 2 * math.asin(math.sqrt(min(max(place, 0.0), 1.0)))
        error = self._error(cells, min(max(centre, 1e-4), math.pi - 1e-4))
        far = _NEAR[-1] * _FAR ** np.arange(1, max(2, math.ceil(math.log(math.pi / error / _NEAR[-1], _FAR)) + 1))
        offsets = np.concatenate([-far[::-1], _NEAR, far]) * error
        return centre, np.unique(np.concatenate([np.clip(centre + offsets, 0, math.pi), _EDGE, math.pi - _EDGE]))

    def _error(self, cells: Cells, angle: float) -> float:
        """How far the angle can be moved until the likelihood changes: about its standard error."""
        reach = self._high - self._low
        rate = self._low + reach * math.sin(angle / 2) ** 2
        curvature, (k_a, n_a, k_b, n_b, _) = 0.0, cells
        for events, trials, one in ((k_a, n_a, rate), (k_b, n_b, rate + self._difference)):
            curvature += events / max(one, 1e-140) ** 2 + (trials - events) / max(1 - one, 1e-140) ** 2
        slope = abs(_slope(cells, rate, rate + self._difference))
        information = curvature * (rate - self._low) * (self._high - rate) + slope * reach / 2
        return min(_WIDEST, 1 / math.sqrt(max(information, 1e-300)))

    def _heavy(self, centres: Array) -> np.ndarray:
        """Numbers of the effects that together hold almost all of the mixture at the likeliest rates."""
        self._kept = np.arange(len(self._effects.sizes))
        weights = self._effects.log_masses + self._ratios(centres, np.arange(len(centres))).sum(axis=0)
        if not np.isfinite(weights).all():
            return self._kept
        order = np.argsort(-weights)
        shares = np.cumsum(np.exp(weights[order] - _log_sum(weights)))
        return np.sort(order[: int(np.searchsorted(shares, 1 - _NEGLIGIBLE)) + 1])

    def _ratios(self, angles: Array, owner: np.ndarray) -> Array:
        rates = self._low + (self._high - self._low) * np.sin(angles / 2) ** 2
        cells = Cells(*(column[owner] for column in self._numbers))
        return log_ratios(cells, rates, self._difference, self._effects, self._kept)

    def least(self, value: Callable[[Array], Array], *, zooms: int = 2, precise: float = 1e-8) -> Array:
        """Infimum [strata], over its free rate, of a value of the table's rows.

        After `zooms` finer grids, one that gains less than `precise` is the last.
        """
        angles, owner, values = self._angles, self._owner, value(self.table)
        least = _lower(np.full(len(self.parts), math.inf), values, owner)
        searched = np.isfinite(least)
        for zoom in range(_ZOOMS):
            minima = _minima(values, owner, searched[owner] & (values <= least[owner] + _CLOSE))
            if not len(minima):
                break
            angles, owner = _finer(angles, owner, minima)
            values = value(self._ratios(angles, owner))
            former, least = least, _lower(least, values, owner)
            if zoom >= zooms:
                searched = searched & (least <= former - precise)
        return least


def _lower(least: Array, values: Array, owner: np.ndarray) -> Array:
    """Each stratum's least value so far [strata], with those of more points."""
    lowest = least.copy()
    np.minimum.at(lowest, owner, values)
    return lowest


def _joined(owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each point on the strata's grids, whether the one before and the one after are of the same stratum."""
    after = np.append(owner[1:] == owner[:-1], False)
    return np.roll(after, 1), after


def _minima(values: Array, owner: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Places of the local minima among the candidates, of each stratum the lowest few."""
    has_before, has_after = _joined(owner)
    before = np.where(has_before, np.append(math.inf, values[:-1]), math.inf)
    after = np.where(has_after, np.append(values[1:], math.inf), math.inf)
    local = candidates & (values <= before) & (values <= after)
    return _lowest_of_each(np.flatnonzero(local), owner, values)


def _finer(angles: Array, owner: np.ndarray, minima: np.ndarray) -> tuple[Array, np.ndarray]:
    """Grids from each minimum to its neighbours on both sides, with the strata that they belong to."""
    has_before, has_after = _joined(owner)
    here = angles[minima]
    left = np.where(has_before[minima], angles[np.maximum(minima - 1, 0)], here)
    right = np.where(has_after[minima], angles[np.minimum(minima + 1, len(angles) - 1)], here)
    steps = np.linspace(0, 1, _PARTS)[:, None]
    new = np.concatenate([left + steps * (here - left), here + steps[1:] * (right - here)])
    place = np.broadcast_to(owner[minima], new.shape).ravel()
    order = np.lexsort((new.ravel(), place))
    return new.ravel()[order], place[order]


def _lowest_of_each(places: np.ndarray, owner: np.ndarray, values: Array) -> np.ndarray:
    """Of the places in each stratum the few with the lowest values."""
    order = places[np.lexsort((values[places], owner[places]))]
    owners = owner[order]
    rank = np.arange(len(order)) - np.searchsorted(owners, owners)
    return order[rank < _MINIMA]


def _common(search: _Search) -> float:
    """The lower bound for several strata."""
    table = np.minimum(search.table, _IMPOSSIBLE)
    weights = _best_weights(search, table)
    least = search.least(lambda rows: np.minimum(rows, _IMPOSSIBLE) @ weights, zooms=0, precise=1e-3)
    return _constant(search, weights) + float(least.sum())


def _constant(search: _Search, weights: Array) -> float:
    """`Σ_j q_j·log(G_j / q_j)`."""
    return float((entr(weights) + weights * search.log_masses).sum())


def _best_weights(search: _Search, table: Array) -> Array:
    """The `q` that makes the bound highest on the grid [effects], by conditional gradients."""
    mean = table[search.likely].sum(axis=0)
    best, weights = -math.inf, np.exp(search.log_masses)
    for step in range(_ROUNDS):
        posterior = search.log_masses + mean
        above = float(_log_sum(posterior))
        q = np.exp(posterior - above)
        products = table @ q
        lowest = [part.start + int(products[part].argmin()) for part in search.parts]
        bound = _constant(search, q) + float(products[lowest].sum())
        if bound > best:
            best, weights = bound, q
        if above - best < _ENOUGH:
            break
        mean = mean + (table[lowest].sum(axis=0) - mean) * (2 / (step + 3))
    return weights
