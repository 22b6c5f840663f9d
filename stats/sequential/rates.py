"""An exact e-process for two rates: evidence that may be looked at after every response, from counts alone.

**One stratum.** The null says that the rates are `(θ, θ + d)` for some `θ`. Against each such point stands a
mixture of alternatives, the pairs of rates

    (a − λ·δ, b + (1 − λ)·δ),   (a, b) = (θ, θ + d),   λ ∝ share·a·(1 − a),   1 − λ ∝ (1 − share)·b·(1 − b),

cut to [0, 1]. Of all null points, `(a, b)` is the nearest to these (in Kullback–Leibler divergence, at the designed
share; for `d = 0` it is their mean), so what the data say on δ they hardly say on `θ`. δ follows from an effect ε
on the scale of `φ = 2·asin(√rate)`, on which rates have constant variance. The ratio to the null is

    R(ε, θ) = (1 − g)·L(alternative(ε, θ)) / L(null(θ)) + g·guard(θ),

whose guard is the ratio of two independent Beta(½, ½) mixtures to the null; it keeps `θ` near the data where the
realised share is not the designed one. Each term is a likelihood ratio: under the null point it is a nonnegative
martingale that starts at 1, in any order of the responses, also where the next variant is chosen by what came before.

**Strata.** With masses `G` of `effect_prior`, `M(θ_1, …, θ_S) = Σ_j G_j·Π_s R_s(ε_j, θ_s)`: one effect, common to
the strata, and a `θ` to each. Ratios of different strata are about different responses, so each product is again such
a martingale, and so is the mixture. A later stratum thus profits from what earlier ones say on `ε`, as if its prior
were their posterior; but nothing has to be fixed beforehand, and late responses of an old epoch do no harm.

**The null as a whole** is composite, so `E = inf M`, or less: under each point of the null `E <= M` of that point,
hence P(E ever reaches 1/α) ≤ α (Ville's inequality). `null_infimum` finds it.

**One side** (`log_e_value_at_most`): the null is `rate_b − rate_a ≤ d`, the effects are increases, and the guard is
one of the same kind: independent mixtures of rates lower for a, higher for b. Every null point lies beyond a point of
the boundary: `θ = min(rate_a, 1 − d)` has `θ <= rate_a` and `θ + d >= rate_b`. A likelihood ratio of a higher
rate to a lower one has a mean of at most 1 where the truth is lower still, and likewise mirrored, so the boundary
point's `M` is a supermartingale under the truth, and the infimum over the boundary is enough.

Sources: Robbins 1970; Howard, Ramdas, McAuliffe, Sekhon 2021 (mixtures); Turner, Ly, Grünwald 2024 (two proportions);
Ramdas, Grünwald, Vovk, Shafer 2023 (infima over composite nulls).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from stats.sequential.counts import Stratum
from stats.sequential.effect_prior import EITHER, INCREASES
from stats.sequential.likelihood_ratios import Cells
from stats.sequential.null_infimum import evidence


def log_e_value(strata: Sequence[Stratum], difference: float = 0.0) -> float:
    """Logarithm of the e-value against `rate_treatment − rate_control == difference` in every stratum.

    Reject at level α where it reaches `log(1/α)`, at any look. 0 without data; at most 0 where a variant has
    none (and `difference` is 0); inf where the counts are impossible.

    Raises:
        ValueError: the difference is not between −1 and 1.
    """
    return remembered(tuple(strata), difference)


@lru_cache(4096)
def remembered(strata: tuple[Stratum, ...], difference: float) -> float:
    """Tests, intervals and guardrails ask for the same, second after second."""
    return evidence([Cells.of(stratum) for stratum in strata], difference, EITHER)


def log_e_value_at_most(strata: Sequence[Stratum], difference: float = 0.0) -> float:
    """Logarithm of the e-value against `rate_treatment − rate_control <= difference` in every stratum.

    It grows where the treatment's rate is higher by more than that. Otherwise as `log_e_value`.
    """
    return evidence([Cells.of(stratum) for stratum in strata], difference, INCREASES)


def log_e_value_at_least(strata: Sequence[Stratum], difference: float = 0.0) -> float:
    """Logarithm of the e-value against `rate_treatment − rate_control >= difference` in every stratum."""
    return log_e_value_at_most([stratum.swapped() for stratum in strata], -difference)
