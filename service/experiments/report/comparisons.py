"""Each variant against the control: differences, evidence, and what may be said of the metric.

α is shared among the variants that are compared (Bonferroni): an e-value decides at k / α, an interval is at α / k. So
the chance that any of them is ever called better or worse without being it, by more than the margin, is at most α.
"""

from __future__ import annotations

import math
from typing import Literal

from service.experiments.experiment import RATES, Experiment, Mean, Rate, Variant
from service.experiments.report.number_format import (
    NAMES,
    between,
    count,
    duration,
    evidence,
    percent_points,
    points_interval,
    rough,
    signed,
)
from service.experiments.report.report_document import (
    Comparison,
    Decision,
    Difference,
    Estimate,
    decisive,
    e_value,
    estimate,
)
from service.experiments.report.samples import Samples, difference, rate_difference
from stats.sequential import (
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
    """Whether the evidence is that a variant is worse on the whole, by however little. Cheaper than comparing."""
    experiment = samples.experiment
    if experiment.metric == "feedback":
        high = _means(samples, variant, "feedback")["high"]
        return high is not None and high < 0
    strata = samples.strata(variant, experiment.metric)
    value = rate_difference(strata)
    return value is not None and value > 0 and e_value(log_e_value(strata)) >= 1 / level(experiment)


def _decide(found: Estimate, experiment: Experiment) -> Decision:
    """By the interval and the margin, which the page draws: all of it within, all of it beyond, or undecided."""
    low, high, margin = found["low"], found["high"], experiment.margin
    if low is None or high is None:
        return "keep watching"
    if _within(found, margin):
        return "no difference that matters"
    if high <= -margin or low >= margin:
        return "better" if (low > 0) == (experiment.metric == "feedback") else "worse"
    return "keep watching"


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


def _means(samples: Samples, variant: str, what: Mean | Literal["length", "latency"]) -> Estimate:
    pairs = samples.moments(variant, what)
    interval = mean_difference_interval(pairs, level(samples.experiment)) if pairs else None
    return estimate(difference(pairs), interval)


def _comparison(samples: Samples, variant: Variant, now: float) -> Comparison:
    experiment, metric = samples.experiment, samples.experiment.metric
    comparison: Comparison = {
        "variant": variant.name,
        "decision": "keep watching",
        "why": "",
        "differences": {rate: _difference(samples, variant.name, rate) for rate in RATES},
        "length": _means(samples, variant.name, "length"),
        "coherence": _means(samples, variant.name, "coherence"),
        "feedback": _means(samples, variant.name, "feedback"),
        "latency": None if variant.mirror else _means(samples, variant.name, "latency"),
        "control_units": 0,
        "variant_units": 0,
        "minimum_detectable": None,
        "more_units": None,
    }
    comparison["decision"] = _decide(decisive(comparison, metric), experiment)
    if metric == "feedback":
        pairs = samples.moments(variant.name, metric)
        comparison["control_units"] = sum(control.n for control, _ in pairs)
        comparison["variant_units"] = sum(treatment.n for _, treatment in pairs)
        return {**comparison, "why": _why_feedback(samples, comparison)}
    strata = samples.strata(variant.name, metric)
    comparison["control_units"] = sum(stratum.control.trials for stratum in strata)
    comparison["variant_units"] = sum(stratum.treatment.trials for stratum in strata)
    comparison["more_units"] = 0 if comparison["decision"] != "keep watching" else None
    if comparison["differences"][metric]["value"] is not None:
        comparison["minimum_detectable"] = minimum_detectable(strata, level(experiment))
        if comparison["decision"] == "keep watching":
            comparison["more_units"] = responses_needed(strata, level(experiment), experiment.margin)
    return {**comparison, "why": _why(samples, comparison, metric, now)}


def _why(samples: Samples, comparison: Comparison, metric: Rate, now: float) -> str:
    """One or two sentences with the numbers."""
    experiment = samples.experiment
    effect, name, what = comparison["differences"][metric], comparison["variant"], NAMES[metric]
    if effect["value"] is None:
        control, treatment = comparison["control_units"], comparison["variant_units"]
        return (
            f"There is nothing to compare yet: {what} are known from {count(treatment, 'unit')} of {name} and from "
            f"{control:,} of {experiment.control}."
        )
    gap = f"{100 * abs(effect['value']):.2f} points {'fewer' if effect['value'] < 0 else 'more'} {what} than"
    if gap.startswith("0.00 "):
        gap = f"about as many {what} as"
    summary = (
        f"{name} has {gap} {experiment.control} ({points_interval(effect)}), counting "
        f"{count(comparison['variant_units'], 'unit')} against {comparison['control_units']:,}."
    )
    needed, margin, e = f"{1 / level(experiment):.3g}", percent_points(experiment.margin), evidence(effect["e_value"])
    decision, certain = comparison["decision"], _rejected(effect, experiment)
    if decision in ("better", "worse"):
        return f"{summary} The whole interval is beyond ±{margin}. The e-value is {e}."
    if decision == "no difference that matters":
        small = f"There is a difference for certain (e-value {e}), but the" if certain else "The"
        return f"{summary} {small} whole interval is within ±{margin}, too little to matter."
    more = _more(samples, comparison, now)
    if not certain:
        return (
            f"{summary} That decides nothing yet: the e-value is {e} where {needed} would show a difference, and the "
            f"interval still holds differences of over {margin}.{more}"
        )
    if (effect["low"] or 0.0) < 0 < (effect["high"] or 0.0):
        return (
            f"{summary} The periods contradict each other (e-value {e}), so there is no one difference to decide about."
        )
    return f"{summary} There is a difference for certain (e-value {e}), but not yet whether of over {margin}.{more}"


def _why_feedback(samples: Samples, comparison: Comparison) -> str:
    """The same of feedback."""
    experiment, effect, name = samples.experiment, comparison["feedback"], comparison["variant"]
    units = (
        f"{count(comparison['variant_units'], 'rated unit')} of {name} against {comparison['control_units']:,} of "
        f"{experiment.control}"
    )
    if effect["value"] is None:
        return f"There is nothing to compare yet: feedback came from {units}."
    way = "higher" if effect["value"] > 0 else "lower"
    low, high = (None if each is None else signed(each, 2) for each in (effect["low"], effect["high"]))
    summary = f"Feedback on {name} is {abs(effect['value']):.2f} {way} than on {experiment.control}"
    margin = f"{experiment.margin:.3g}"
    if low is None or high is None:
        return f"{summary}, counting {units}; under 100 of each that decides nothing."
    summary = f"{summary} ({between(low, high)}), counting {units}."
    if comparison["decision"] in ("better", "worse"):
        return f"{summary} The whole interval is beyond ±{margin}."
    if comparison["decision"] == "no difference that matters":
        return f"{summary} The whole interval is within ±{margin}, too little to matter."
    return f"{summary} That decides nothing yet: the interval reaches across {margin} or −{margin}."


def _more(samples: Samples, comparison: Comparison, now: float) -> str:
    """How many more units, and how long they would take."""
    experiment, more = samples.experiment, comparison["more_units"]
    if not more:
        return ""
    forecast = f" About {count(rough(more), 'more unit')} would decide, if rates stay as they are"
    passed, known_units = now - experiment.created_at, comparison["control_units"] + comparison["variant_units"]
    if experiment.status != "running" or passed <= 0:
        return f"{forecast}."
    return f"{forecast}: {duration(more * passed / known_units)} at the pace so far."
