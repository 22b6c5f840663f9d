"""Guardrails: has a variant crossed one? Cheap enough to be asked every second.

α is shared among all pairs of a guardrail and a variant: the chance that any of them ever stops an experiment although
nothing passed its margin is at most `ALPHA`.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

from service.experiments.experiment import MEANS, RATES, Experiment, Guardrail, Variant
from service.experiments.outcomes.totals import Tally
from service.experiments.report.number_format import bound_words
from service.experiments.report.report_document import Bound, e_value
from service.experiments.report.samples import Samples, difference, rate_difference
from service.experiments.report.variant_figures import p95
from stats.sequential import Stratum, log_e_value_at_least, log_e_value_at_most, mean_difference_interval

ALPHA = 0.05
"""Chance of a false alarm, over all guardrails, variants and looks together."""

_OF_TEXT = ("toxicity", "repetition", "refusal", "length", "coherence")


@dataclass(frozen=True)
class Crossed:
    """A guardrail that a variant has crossed, and the evidence in words."""

    variant: str
    guardrail: Guardrail
    why: str


def crossed(experiment: Experiment, tallies: Sequence[Tally]) -> Crossed | None:
    """The first guardrail that a variant has crossed, or None. What stands within its margin costs next to nothing."""
    if not experiment.guardrails:
        return None
    samples = Samples(experiment, tallies)
    for guardrail, variant, alpha in _pairs(experiment):
        bound = _bound(samples, guardrail, variant, alpha, thorough=False)
        if bound["crossed"]:
            return Crossed(variant.name, guardrail, bound["why"])
    return None


def bounds(samples: Samples) -> list[Bound]:
    """Every guardrail for every variant it guards."""
    return [_bound(samples, *pair, thorough=True) for pair in _pairs(samples.experiment)]


def coherent(experiment: Experiment, tallies: Sequence[Tally]) -> bool:
    """Whether every shown variant whose coherence is guarded is shown to write no gibberish."""
    samples = Samples(experiment, tallies)
    guarded = [pair for pair in _pairs(experiment) if pair[0].metric == "coherence" and not pair[1].mirror]
    return all(_bound(samples, *pair, thorough=False)["shown"] for pair in guarded)


def _pairs(experiment: Experiment) -> list[tuple[Guardrail, Variant, float]]:
    """Guardrails and the variants they guard, each pair with its part of α."""
    pairs = [
        (guardrail, variant)
        for guardrail in experiment.guardrails
        for variant in experiment.variants
        if variant.name != experiment.control and (guardrail.metric in _OF_TEXT or not variant.mirror)
    ]
    return [(guardrail, variant, ALPHA / len(pairs)) for guardrail, variant in pairs]


def _bound(samples: Samples, guardrail: Guardrail, variant: Variant, alpha: float, *, thorough: bool) -> Bound:
    """`thorough`: with the e-value of what stands within its margin as well."""
    evidence: float | None = None
    shown: bool | None = None
    if guardrail.metric in RATES:
        # A variant that breaks must be noticed, no matter which user meets it: every failure is evidence.
        strata = samples.strata(variant.name, guardrail.metric, every=guardrail.metric == "error")
        value = rate_difference(strata)
        past = value is not None and (value if guardrail.direction == "increase" else -value) > guardrail.margin
        if past or (thorough and value is not None):
            evidence = e_value(_log_e_value(strata, guardrail))
        passed = past and evidence is not None and evidence >= 1 / alpha
    elif guardrail.metric in MEANS:
        value, passed, shown = _mean(samples, guardrail, variant, alpha)
    elif guardrail.metric == "length":
        value, passed = _length(samples, guardrail, variant, alpha)
    else:
        value, passed = _latency(samples, guardrail, variant, alpha)
    bound: Bound = {
        "metric": guardrail.metric,
        "direction": guardrail.direction,
        "margin": guardrail.margin,
        "variant": variant.name,
        "crossed": passed,
        "shown": shown,
        "value": value,
        "e_value": evidence,
        "needed": 1 / alpha,
        "why": "",
    }
    return {**bound, "why": bound_words(bound, samples.experiment.control)}


def _log_e_value(strata: Sequence[Stratum], guardrail: Guardrail) -> float:
    """Against "it is within the margin", one-sided."""
    if guardrail.direction == "increase":
        return log_e_value_at_most(strata, guardrail.margin)
    return log_e_value_at_least(strata, -guardrail.margin)


def _mean(samples: Samples, guardrail: Guardrail, variant: Variant, alpha: float) -> tuple[float | None, bool, bool]:
    """Of coherence or feedback: the difference, whether it is past the margin, and whether it is within for certain."""
    pairs = samples.moments(variant.name, guardrail.metric)
    low, high = mean_difference_interval(pairs, 2 * alpha)  # one of its ends is asked for
    if guardrail.direction == "decrease":
        return difference(pairs), high < -guardrail.margin, low >= -guardrail.margin
    return difference(pairs), low > guardrail.margin, high <= guardrail.margin


def _length(samples: Samples, guardrail: Guardrail, variant: Variant, alpha: float) -> tuple[float | None, bool]:
    pairs = samples.moments(variant.name, "length")
    gap = difference(pairs)
    weights = [control.n * treatment.n / (control.n + treatment.n) for control, treatment in pairs]
    if gap is None or not sum(weights):
        return None, False
    # The control's mean, put together over epochs as the differences are.
    means = [control.total / control.n for control, _ in pairs]
    average = sum(map(operator.mul, weights, means)) / sum(weights)
    if not average:
        return None, False
    low, high = mean_difference_interval(pairs, 2 * alpha)  # one of its ends is asked for
    allowed = guardrail.margin * average
    return gap / average, low > allowed if guardrail.direction == "increase" else high < -allowed


def _latency(samples: Samples, guardrail: Guardrail, variant: Variant, alpha: float) -> tuple[float | None, bool]:
    """The 95th percentiles of the epoch in force: time differs from hour to hour, so epochs are not put together.

    Each epoch begins anew, so α is shared among all there may be: 1/(1·2) + 1/(2·3) + … = 1. Of each of the two
    intervals one end is asked for, which has half of a share.
    """
    epoch = samples.experiment.epoch
    epoch_alpha = alpha / ((epoch + 1) * (epoch + 2))
    control, treatment = (
        p95(samples.units_in(epoch, name), epoch_alpha) for name in (samples.experiment.control, variant.name)
    )
    value = treatment["value"] / control["value"] - 1 if treatment["value"] and control["value"] else None
    if guardrail.direction == "increase":
        least, upper_end = treatment["low"], control["high"]
        return value, least is not None and upper_end is not None and least > (1 + guardrail.margin) * upper_end
    upper_end, least = treatment["high"], control["low"]
    return value, least is not None and upper_end is not None and upper_end < (1 - guardrail.margin) * least
