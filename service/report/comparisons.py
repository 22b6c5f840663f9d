"""Each variant against the control: differences, evidence, and what may be said of the metric.

α is shared among the variants that are compared (Bonferroni): an e-value decides at k / α, an interval is at α / k. So
the chance that any of them is ever called better or worse without being it is at most α.
"""

from __future__ import annotations

import math

from service.experiments import RATES, Experiment, Rate, Variant
from service.report.document import Comparison, Decision, Difference, Estimate, e_value, estimate
from service.report.samples import Samples, difference, rate_difference
from service.report.words import NAMES, count, duration, evidence, percent_points, points_interval, rough
from service.sequential import (
    difference_interval,
    log_e_value,
    mean_difference_interval,
    minimum_detectable,
    responses_needed,
)


def compared(experiment: Experiment) -> list[Variant]:
    """The variants that are compared with the control."""
    return [variant for variant in experiment.variants if variant.name != experiment.control]


def level(experiment: Experiment) -> float:
    """α of each comparison."""
    return experiment.alpha / len(compared(experiment))


def comparisons(samples: Samples, now: float) -> list[Comparison]:
    """Of every variant but the control."""
    return [_comparison(samples, variant, now) for variant in compared(samples.experiment)]


def worse(samples: Samples, variant: str) -> bool:
    """Whether the evidence is that a variant is worse on the whole. Far cheaper than the whole comparison."""
    strata = samples.strata(variant, samples.experiment.metric)
    value = rate_difference(strata)
    return value is not None and value > 0 and e_value(log_e_value(strata)) >= 1 / level(samples.experiment)


def _decide(found: Difference, experiment: Experiment) -> Decision:
    """The interval must be on one side of 0 as well: where epochs contradict each other, it is not."""
    if found["value"] is None or found["low"] is None or found["high"] is None:
        return "keep watching"
    if _rejected(found, experiment) and found["value"] < 0 and found["high"] <= 0:
        return "better"
    if _rejected(found, experiment) and found["value"] > 0 and found["low"] >= 0:
        return "worse"
    return "no difference that matters" if _within(found, experiment.margin) else "keep watching"


def _rejected(found: Difference, experiment: Experiment) -> bool:
    """Whether "no difference in any epoch" is refuted."""
    return found["e_value"] is not None and found["e_value"] >= 1 / level(experiment)


def _within(found: Estimate, margin: float) -> bool:
    low, high = found["low"], found["high"]
    return low is not None and high is not None and -margin < low and high < margin


def _difference(samples: Samples, variant: str, rate: Rate) -> Difference:
    strata = samples.strata(variant, rate)
    value = rate_difference(strata)
    if value is None:
        return {"value": None, "low": None, "high": None, "e_value": None, "p_value": None}
    log_e = log_e_value(strata)
    return {
        **estimate(value, difference_interval(strata, level(samples.experiment))),
        "e_value": e_value(log_e),
        "p_value": min(1.0, math.exp(-log_e)) if log_e > 0 else 1.0,
    }


def _means(samples: Samples, variant: str, what: str) -> Estimate:
    pairs = samples.moments(variant, what)
    interval = mean_difference_interval(pairs, level(samples.experiment)) if pairs else None
    return estimate(difference(pairs), interval)


def _comparison(samples: Samples, variant: Variant, now: float) -> Comparison:
    experiment, metric = samples.experiment, samples.experiment.metric
    differences = {rate: _difference(samples, variant.name, rate) for rate in RATES}
    strata = samples.strata(variant.name, metric)
    found = differences[metric]
    decision = _decide(found, experiment)
    detectable, more = None, 0 if decision != "keep watching" else None
    if found["value"] is not None:
        detectable = minimum_detectable(strata, level(experiment))
        if decision == "keep watching":
            more = responses_needed(strata, level(experiment), experiment.margin)
    comparison: Comparison = {
        "variant": variant.name,
        "decision": decision,
        "why": "",
        "differences": differences,
        "length": _means(samples, variant.name, "length"),
        "latency": None if variant.mirror else _means(samples, variant.name, "latency"),
        "control_units": sum(stratum.control.trials for stratum in strata),
        "variant_units": sum(stratum.treatment.trials for stratum in strata),
        "minimum_detectable": detectable,
        "more_units": more,
    }
    return {**comparison, "why": _why(samples, comparison, now)}


def _why(samples: Samples, comparison: Comparison, now: float) -> str:
    """One or two sentences with the numbers."""
    experiment = samples.experiment
    found, name, what = comparison["differences"][experiment.metric], comparison["variant"], NAMES[experiment.metric]
    if found["value"] is None:
        control, own = comparison["control_units"], comparison["variant_units"]
        return (
            f"There is nothing to compare yet: {what} are known from {count(own, 'unit')} of {name} and from "
            f"{control:,} of {experiment.control}."
        )
    gap = f"{100 * abs(found['value']):.2f} points {'fewer' if found['value'] < 0 else 'more'} {what} than"
    if gap.startswith("0.00 "):
        gap = f"about as many {what} as"
    told = (
        f"{name} has {gap} {experiment.control} ({points_interval(found)}), counting "
        f"{count(comparison['variant_units'], 'unit')} against {comparison['control_units']:,}."
    )
    needed, margin, e = f"{1 / level(experiment):.3g}", percent_points(experiment.margin), evidence(found["e_value"])
    decision = comparison["decision"]
    if decision in ("better", "worse"):
        small = f" The whole interval is within ±{margin}, though: real, but too little to matter."
        return f"{told} The e-value is {e}; {needed} decides.{small if _within(found, experiment.margin) else ''}"
    if decision == "no difference that matters":
        return f"{told} The whole interval is within ±{margin}, too little to matter."
    if _rejected(found, experiment):
        return f"{told} The periods contradict each other (e-value {e}), so there is no one difference to decide about."
    return (
        f"{told} That decides nothing yet: the e-value is {e} where {needed} is needed, and the interval still holds "
        f"differences of over {margin}.{_more(samples, comparison, now)}"
    )


def _more(samples: Samples, comparison: Comparison, now: float) -> str:
    """How many more units, and how long they would take."""
    experiment, more = samples.experiment, comparison["more_units"]
    if not more:
        return ""
    told = f" About {count(rough(more), 'more unit')} would decide, if rates stay as they are"
    passed, known_units = now - experiment.created_at, comparison["control_units"] + comparison["variant_units"]
    if experiment.status != "running" or passed <= 0:
        return f"{told}."
    return f"{told}: {duration(more * passed / known_units)} at the pace so far."
