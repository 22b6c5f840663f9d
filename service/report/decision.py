"""The report of an experiment: what was seen, what may be concluded from it, and why looking often does no harm.

Pure functions of an experiment and its tallies; nothing here asks a database or a clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from service.experiments import Experiment
from service.outcomes.totals import Tally
from service.report.comparisons import compared, comparisons, level, worse
from service.report.document import FORMAT, Bound, Comparison, Decision, Report, Split, VariantFigures
from service.report.guardrails import bounds, crossed
from service.report.notes import notes
from service.report.samples import Samples
from service.report.split import split
from service.report.variants import figures
from service.report.words import NAMES, evidence, percent
from service.report.words import level as share


def report(
    experiment: Experiment, tallies: Sequence[Tally], now: float, measured: Mapping[str, object] = MappingProxyType({})
) -> Report:
    """The whole report, as JSON values; ``now`` in seconds since 1970, ``measured``: mask → its ``meta.measured``."""
    samples = Samples(experiment, tallies)
    divided, against, guarded = split(samples), comparisons(samples, now), bounds(samples)
    if divided["broken"]:
        nothing = "The split is broken, so this comparison means nothing."
        against = [{**each, "decision": "broken split", "why": nothing} for each in against]
    variants = figures(samples, measured)
    against = [_with_warnings(each, variants) for each in against]
    decision, why = _overall(divided, against, guarded)
    return {
        "object": "experiment.report",
        "format": FORMAT,
        "experiment": experiment.name,
        "status": experiment.status,
        "reason": experiment.reason,
        "winner": experiment.winner,
        "decision": decision,
        "why": why,
        "peeking": _peeking(experiment),
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
        "notes": notes(experiment, variants),
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
    told = f"But its mask {variant['mask']} has warnings: {' '.join(variant['warnings'])}"
    return {**comparison, "why": f"{comparison['why']} {told}"}


def _overall(divided: Split, against: Sequence[Comparison], guarded: Sequence[Bound]) -> tuple[Decision, str]:
    """Of several variants: better if one is; undecided while one may still turn out so; else worse only if all are."""
    if divided["broken"]:
        return "broken split", _broken(divided)
    alarms = [
        f"{each['variant']} crossed the guardrail of {NAMES[each['metric']]}." for each in guarded if each["crossed"]
    ]
    found = {each["decision"] for each in against}
    decision: Decision
    if "better" in found:
        decision = "better"
    elif "keep watching" in found:
        decision = "keep watching"
    else:
        decision = "worse" if found == {"worse"} else "no difference that matters"
    first = [each["why"] for each in against if each["decision"] == decision]
    rest = [f"{each['variant']}: {each['decision']}." for each in against if each["decision"] != decision]
    return decision, " ".join([*alarms, *first, *rest])


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
