"""Figures of each variant by itself: counts, rates, lengths and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from masks import harm
from service.experiments.experiment import RATES, Experiment, Rate, Variant
from service.experiments.outcomes.totals import LATENCY_EDGES, Totals
from service.experiments.report.offline import offline
from service.experiments.report.report_document import Estimate, RateFigures, VariantFigures, estimate
from service.experiments.report.samples import Samples, count, mean, moments, value
from service.routing.policy import BASE
from stats.sequential import mean_interval, quantile_interval, rate_interval

P95 = 0.95


def figures(samples: Samples, measured: Mapping[str, object]) -> list[VariantFigures]:
    """Of all variants, the control first. Intervals are at the experiment's α, each by itself.

    Args:
        samples: the experiment with its sums.
        measured: label of a mask → its `meta.measured`.
    """
    experiment = samples.experiment
    ordered = sorted(experiment.variants, key=lambda variant: variant.name != experiment.control)
    return [_figures(samples, experiment, variant, measured.get(variant.mask)) for variant in ordered]


def p95(totals: Totals, alpha: float) -> Estimate:
    """The 95th percentile of seconds, with its interval. Null beyond the histogram's last edge, and without data."""
    interval = quantile_interval(totals.latency, LATENCY_EDGES, P95, alpha) if totals.responses else None
    return estimate(_quantile(totals.latency, P95), interval)


def _figures(samples: Samples, experiment: Experiment, variant: Variant, measured: object) -> VariantFigures:
    every, units, alpha = samples.all(variant.name), samples.units(variant.name), experiment.alpha
    control = variant.name == experiment.control
    return {
        "name": variant.name,
        "mask": variant.mask,
        "warnings": list(harm.warnings(measured)),
        "offline": None if variant.mask == BASE else offline(measured),
        "role": "mirrored" if variant.mirror else "control" if control else "shown",
        "share": variant.mirror or experiment.shares[-1].get(variant.name, 0.0),
        "responses": every.responses,
        "errors": every.errors,
        "truncated": every.truncated,
        "anonymous": every.anonymous,
        "scored": every.scored,
        "judged": every.judged,
        "rated": every.rated,
        "units": units.responses + units.errors,
        "rates": {rate: _rate(every, units, rate, alpha) for rate in RATES},
        "length": _mean(units, "length", alpha),
        "coherence": _mean(units, "coherence", alpha),
        "feedback": _mean(units, "feedback", alpha),
        "latency": None if variant.mirror else _mean(units, "latency", alpha),
        "latency_p95": None if variant.mirror else p95(units, alpha),
    }


def _rate(every: Totals, units: Totals, rate: Rate, alpha: float) -> RateFigures:
    shown, counted = count(every, rate), count(units, rate)
    ends = estimate(None, rate_interval(counted, alpha) if counted.trials else None)
    return {
        "events": shown.events,
        "trials": shown.trials,
        "value": value(shown),
        "unit_events": counted.events,
        "unit_trials": counted.trials,
        "unit_value": value(counted),
        "low": ends["low"],
        "high": ends["high"],
    }


def _mean(units: Totals, what: str, alpha: float) -> Estimate:
    sums = moments(units, what)
    return estimate(mean(sums), mean_interval(sums, alpha) if sums.n else None)


def _quantile(histogram: Sequence[int], p: float) -> float | None:
    """Where the share `p` of a histogram lies, evenly within its bucket; None in the open last one."""
    rank = p * sum(histogram)
    if not rank:
        return None
    reached = list(accumulate(histogram))
    bucket = next(place for place, up_to in enumerate(reached) if up_to >= rank)
    if bucket == len(LATENCY_EDGES):
        return None
    low, high = (LATENCY_EDGES[bucket - 1] if bucket else 0.0), LATENCY_EDGES[bucket]
    return low + (high - low) * (rank - (reached[bucket] - histogram[bucket])) / histogram[bucket]
