"""The report of an experiment: what was seen, what may be concluded from it, and why looking often does no harm.

Pure functions of an experiment and its tallies; nothing here asks a database or a clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from service.experiments.experiment import Experiment
from service.experiments.outcomes.queries import Moment
from service.experiments.outcomes.totals import Tally
from service.experiments.report.caveats import cautions, caveats
from service.experiments.report.comparisons import compared, comparisons, level, worse
from service.experiments.report.guardrails import bounds, crossed
from service.experiments.report.number_format import NAMES, evidence, headline, percent
from service.experiments.report.number_format import level as share
from service.experiments.report.report_document import (
    FORMAT,
    Bound,
    Comparison,
    Decision,
    Report,
    Split,
    VariantFigures,
)
from service.experiments.report.sample_ratio import split
from service.experiments.report.samples import Samples
from service.experiments.report.time_course import course
from service.experiments.report.variant_figures import figures


def report(
    experiment: Experiment,
    tallies: Sequence[Tally],
    now: float,
    measured: Mapping[str, object] = MappingProxyType({}),
    moments: Sequence[Moment] = (),
) -> Report:
    """The whole report, as JSON values.

    Args:
        experiment: as it stands.
        tallies: its sums, by epoch and variant.
        now: seconds since 1970.
        measured: mask → its `meta.measured`.
        moments: what is kept of its course over time.
    """
    samples = Samples(experiment, tallies)
    divided, against, guarded = split(samples), comparisons(samples, now), bounds(samples)
    variants = figures(samples, measured)
    if divided["broken"]:
        nothing = "The split is broken, so this comparison means nothing."
        against = [{**each, "decision": "broken split", "why": nothing} for each in against]
    else:
        against = [_with_warnings(_guarded(each, guarded), variants) for each in against]
    decision, about, why = _overall(divided, against)
    return {
        "object": "experiment.report",
        "format": FORMAT,
        "experiment": experiment.name,
        "status": experiment.status,
        "reason": experiment.reason,
        "winner": experiment.winner,
        "decision": decision,
        "about": about,
        "headline": headline(decision, about, experiment.control),
        "why": why,
        "peeking": _peeking(experiment),
        "warnings": cautions(experiment, variants),
        "metric": experiment.metric,
        "margin": experiment.margin,
        "alpha": experiment.alpha,
        "comparison_alpha": level(experiment),
        "control": experiment.control,
        "unit": experiment.unit,
        "epoch": experiment.epoch,
        "created_at": experiment.created_at,
        "made_at": now,
        "variants": variants,
        "comparisons": against,
        "split": divided,
        "guardrails": guarded,
        "course": course(experiment, moments),
        "notes": caveats(experiment, variants),
    }


def healthy(experiment: Experiment, tallies: Sequence[Tally]) -> bool:
    """Whether a ramp may go on: no guardrail is crossed, the split is sound, and no shown variant is known as worse."""
    samples = Samples(experiment, tallies)
    if crossed(experiment, tallies) or split(samples)["broken"]:
        return False
    return not any(worse(samples, variant.name) for variant in compared(experiment) if not variant.mirror)


def _peeking(experiment: Experiment) -> str:
    return (
        "Look as often as you like, and stop when you like: these e-values and intervals hold at every look, so the "
        f"chance that any variant is ever wrongly called better or worse is at most {share(experiment.alpha)}."
    )


def _with_warnings(comparison: Comparison, variants: Sequence[VariantFigures]) -> Comparison:
    """What the mask of a better variant says against itself stands beside the verdict: it is about one rate alone."""
    variant = next(each for each in variants if each["name"] == comparison["variant"])
    if comparison["decision"] != "better" or not variant["warnings"]:
        return comparison
    warning = f"But its mask {variant['mask']} has warnings: {' '.join(variant['warnings'])}"
    return {**comparison, "why": f"{comparison['why']} {warning}"}


def _guarded(comparison: Comparison, guarded: Sequence[Bound]) -> Comparison:
    """A variant that crossed a guardrail is not better, nor is one that has yet to show that it writes sense."""
    variant_bounds = [bound for bound in guarded if bound["variant"] == comparison["variant"]]
    if crossings := [bound for bound in variant_bounds if bound["crossed"]]:
        names = " and ".join(NAMES[bound["metric"]] for bound in crossings)
        reasons = " ".join(bound["why"] for bound in crossings)
        why = f"{comparison['variant']} crossed the guardrail of {names}. {reasons} {comparison['why']}"
        return {**comparison, "decision": "guardrail crossed", "why": why}
    unknown = [bound for bound in variant_bounds if bound["metric"] == "coherence" and not bound["shown"]]
    if comparison["decision"] != "better" or not unknown:
        return comparison
    reasons = " ".join(bound["why"] for bound in unknown)
    why = f"{comparison['why']} But it is not shown yet that {comparison['variant']} writes no gibberish. {reasons}"
    return {**comparison, "decision": "keep watching", "why": why}


_WEIGHT: tuple[Decision, ...] = (
    "guardrail crossed",
    "better",
    "keep watching",
    "no difference that matters",
    "worse",
)
"""Of several variants the first of these that is found is the experiment's: undecided while one may still turn out
better, worse only if all are."""


def _overall(divided: Split, against: Sequence[Comparison]) -> tuple[Decision, list[str], str]:
    """The decision, the variants that it speaks of, and why."""
    if divided["broken"]:
        return "broken split", [each["variant"] for each in against], _broken(divided)
    decisions = {each["decision"] for each in against}
    decision = next(each for each in _WEIGHT if each in decisions)
    about = [each for each in against if each["decision"] == decision]
    rest = [f"{each['variant']}: {each['decision']}." for each in against if each["decision"] != decision]
    return decision, [each["variant"] for each in about], " ".join([*(each["why"] for each in about), *rest])


def _broken(divided: Split) -> str:
    total = sum(divided["counted"].values())
    shares = ", ".join(
        f"{name} got {percent(counted / total)} of the units and not {percent(divided['expected'][name] / total)}"
        for name, counted in divided["counted"].items()
    )
    return (
        f"The split is not as designed: {shares} ({total:,} units, e-value {evidence(divided['e_value'])}, and "
        f"{1 / divided['alpha']:,.0f} is too much). Some variant probably lost units, so nothing below can be trusted. "
        "Look for crashes, timeouts, retries or clients that give up; mend it, and begin a new experiment."
    )
