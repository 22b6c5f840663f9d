"""The prior over effects: a Cauchy distribution on a fixed grid, on the scale where rates have constant variance.

An effect is a difference of `φ = 2·asin(√rate)`, whose Fisher information is 1 a trial whatever the rate. On that
scale 2% against 1% is 0.083, 10% against 5% is 0.19, 1% against 0.5% is 0.059, so half of the prior lies within 0.1.
The tails are heavy: a surprise costs a logarithm. Nodes grow geometrically, so that wherever evidence is near a
decision, the nodes lie closer than its standard error, from ten trials to 10⁹. Any masses that sum to 1 make a valid
e-process; these decide about power only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SCALE = 0.1
"""Half of the mass lies within this distance of 0."""
_LEAST = 1e-5
_GROWTH = 1.25


@dataclass(frozen=True)
class Effects:
    """`sizes` [n] of effects, and the logarithms of their masses [n]; float64."""

    sizes: NDArray[np.float64]
    log_masses: NDArray[np.float64]


def _effects(two_sided: bool) -> Effects:
    """A Cauchy distribution, or its positive half, cut at ±π."""
    positive = _LEAST * _GROWTH ** np.arange(math.ceil(math.log(math.pi / _LEAST, _GROWTH)))
    edges = np.append(positive / math.sqrt(_GROWTH), math.pi)
    cumulative = np.arctan(edges / SCALE) / np.arctan(math.pi / SCALE)
    masses, sizes = np.diff(cumulative), positive
    if two_sided:
        masses, sizes = np.concatenate([masses[::-1], masses]) / 2, np.concatenate([-sizes[::-1], sizes])
    rest = 1 - math.fsum(masses)
    return Effects(np.append(sizes, 0.0), np.log(np.append(masses, rest)))


EITHER = _effects(two_sided=True)
"""Effects of both signs, equally likely."""
INCREASES = _effects(two_sided=False)
"""Increases, and none."""
