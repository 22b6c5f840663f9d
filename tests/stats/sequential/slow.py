"""A slow second derivation of the e-process, with mpmath; shares nothing with the service but constants."""

from __future__ import annotations

import mpmath
from mpmath import mpf

from stats.sequential.effect_prior import EITHER, INCREASES
from stats.sequential.likelihood_ratios import GUARD

mpmath.mp.dps = 40


def likelihood(events, trials, rate):
    return mpf(rate) ** events * (1 - mpf(rate)) ** (trials - events)


def moved(rate, effect):
    angle = 2 * mpmath.asin(mpmath.sqrt(rate)) + effect
    return mpmath.sin(min(max(angle, mpf(0)), mpmath.pi) / 2) ** 2


def pair(a, b, share, effect):
    """The alternative: of the difference that the angles say, and orthogonal to the null."""
    share, s_a, s_b = mpf(share), mpmath.sqrt(a * (1 - a)), mpmath.sqrt(b * (1 - b))
    total = share * s_a + (1 - share) * s_b
    lever = share * s_a / total if total else share
    difference = moved(b, (1 - lever) * effect) - moved(a, -lever * effect)
    total = share * s_a**2 + (1 - share) * s_b**2
    lever = share * s_a**2 / total if total else share
    more = difference - (b - a)
    return tuple(min(max(rate, mpf(0)), mpf(1)) for rate in (a - lever * more, b + (1 - lever) * more))


def mixture(events, trials):
    """Beta(½, ½) mixture of likelihoods."""
    half = mpf(1) / 2
    return mpmath.beta(events + half, trials - events + half) / mpmath.beta(half, half)


def martingale(strata, rates, difference, effects=EITHER):
    """M at one point of the null; strata are (k_a, n_a, k_b, n_b, share)."""
    masses = [mpmath.exp(mpf(float(mass))) for mass in effects.log_masses]
    products = list(masses)
    for (k_a, n_a, k_b, n_b, share), rate in zip(strata, rates, strict=True):
        a, b = mpf(rate), mpf(rate) + mpf(difference)
        null = likelihood(k_a, n_a, a) * likelihood(k_b, n_b, b)
        if null == 0:
            return mpmath.inf
        if effects is EITHER:
            guard = mixture(k_a, n_a) * mixture(k_b, n_b) / null
        else:
            sizes = [mpf(float(size)) for size in INCREASES.sizes]
            lower = sum(mass * likelihood(k_a, n_a, moved(a, -size)) for mass, size in zip(masses, sizes, strict=True))
            higher = sum(mass * likelihood(k_b, n_b, moved(b, size)) for mass, size in zip(masses, sizes, strict=True))
            guard = lower * higher / null
        for j, effect in enumerate(effects.sizes):
            p, q = pair(a, b, share, mpf(float(effect)))
            ratio = likelihood(k_a, n_a, p) * likelihood(k_b, n_b, q) / null
            products[j] *= (1 - mpf(GUARD)) * ratio + mpf(GUARD) * guard
    return sum(products)
