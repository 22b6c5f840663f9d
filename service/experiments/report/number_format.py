"""Figures in words: how the report, the table, the picture and the page all write numbers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from service.experiments.experiment import Metric
from service.experiments.report.report_document import Bound, Decision, Estimate, Report

NOTHING = "–"

NAMES: dict[Metric, str] = {
    "toxicity": "toxic responses",
    "repetition": "repetitive responses",
    "refusal": "refusals",
    "error": "failed requests",
    "length": "mean length",
    "latency_p95": "95th percentile of latency",
    "coherence": "coherence",
    "feedback": "feedback",
}


def percent(rate: float | None) -> str:
    """`2.31%`: two digits after the point below 10%, one above."""
    if rate is None:
        return NOTHING
    return f"{100 * rate:.{2 if abs(rate) < 0.1 else 1}f}%"


def level(share: float) -> str:
    """`5%`, `1.67%`: a chosen share rather than a measured one."""
    return f"{100 * share:.3g}%"


def points(difference: float | None) -> str:
    """`−0.62`: a difference of rates in percentage points, signed."""
    return NOTHING if difference is None else signed(100 * difference, 2)


def signed(number: float, digits: int) -> str:
    """With its sign, and a true minus; nothing is `−0`."""
    text = f"{number:+.{digits}f}".replace("-", "−")
    return text if float(text.replace("−", "-")) else text[1:]


def tokens(length: float | None) -> str:
    """`84.2`."""
    return NOTHING if length is None else f"{length:,.1f}"


def seconds(time: float | None) -> str:
    """`0.143 s`: three digits."""
    return NOTHING if time is None else f"{time:#.3g} s" if time < 100 else f"{time:,.0f} s"


def points_interval(found: Estimate) -> str:
    """`−1.20 to −0.04`."""
    return between(points(found["low"]), points(found["high"]))


def between(low: str, high: str) -> str:
    """Two ends as words; an unknown end is left open."""
    if low == high == NOTHING:
        return ""
    if high == NOTHING:
        return f"over {low}"
    if low == NOTHING:
        return f"up to {high}"
    for unit in ("%", " s"):  # said once
        if low.endswith(unit) and high.endswith(unit):
            low = low.removesuffix(unit)
    return f"{low} to {high}"


def evidence(e_value: float | None) -> str:
    """An e-value: `0.4`, `37`, `12,000`."""
    if e_value is None:
        return NOTHING
    if e_value >= 1e6:
        return "over a million"
    return f"{e_value:,.0f}" if e_value >= 100 else f"{e_value:.2g}"


def chance(p_value: float | None) -> str:
    """A p-value: `0.024`, `under 0.0001`."""
    if p_value is None:
        return NOTHING
    return "under 0.0001" if p_value < 1e-4 else f"{p_value:.2g}"


def count(number: int, what: str) -> str:
    """`1 unit`, `1,200 units`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def rough(number: int) -> int:
    """To two digits."""
    return round(number, 2 - len(str(number))) if number else 0


def duration(time: float) -> str:
    """Of seconds, roughly: `40 minutes`, `3 hours`, `12 days`."""
    for size, name in ((86_400, "day"), (3_600, "hour")):
        if time >= 2 * size:
            return count(round(time / size), name)
    return count(max(1, round(time / 60)), "minute")


def moment(time: float) -> str:
    """Seconds since 1970 as `2025-11-21 13:05 UTC`."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")


def percent_points(margin: float) -> str:
    """`1 point`, `0.5 points`."""
    text = f"{100 * margin:.3g}"
    return f"{text} point" if text == "1" else f"{text} points"


def headline(decision: Decision, about: Sequence[str], control: str) -> str:
    """The decision with the names of the variants that it speaks of: `detox is better than base`."""
    names = ", ".join(about[:-1]) + (" and " if len(about) > 1 else "") + about[-1]
    if decision == "broken split":
        return "broken split"
    if decision == "keep watching":
        return f"keep watching {names}"
    if decision == "no difference that matters":
        return f"{names}: no difference that matters from {control}"
    be = "are" if len(about) > 1 else "is"
    return (
        f"{names} crossed a guardrail" if decision == "guardrail crossed" else f"{names} {be} {decision} than {control}"
    )


def warnings(report: Report) -> list[str]:
    """The report's own, then of every variant's mask, after its name: `detox (detox@1): Perplexity rose by …`."""
    return report["warnings"] + [
        f"{each['name']} ({each['mask']}): {warning}" for each in report["variants"] for warning in each["warnings"]
    ]


def amount(metric: Metric, size: float) -> str:
    """A margin: `1 point`, `20%`, `1 nat a token`, `0.1`."""
    if metric in ("length", "latency_p95"):
        return level(size)
    if metric == "coherence":
        return f"{size:.3g} {'nat' if size == 1 else 'nats'} a token"
    return f"{size:.3g}" if metric == "feedback" else percent_points(size)


def gap(metric: Metric, difference: float) -> str:
    """A difference, signed: `−0.62 points`, `+12.0%`, `−4.21 nats a token`."""
    if metric in ("length", "latency_p95"):
        return f"{signed(100 * difference, 1)}%"
    if metric in ("coherence", "feedback"):
        return signed(difference, 2) + (" nats a token" if metric == "coherence" else "")
    return f"{points(difference)} points"


def bound_words(bound: Bound, control: str) -> str:
    """What a guardrail has found, in one sentence."""
    metric, more = bound["metric"], "more" if bound["direction"] == "increase" else "less"
    rule = f"{NAMES[metric].capitalize()}: at most {amount(metric, bound['margin'])} {more} than {control}"
    if bound["value"] is None:
        return f"{rule}; nothing is known of {bound['variant']} yet."
    summary = f"{rule}; {bound['variant']} stands at {gap(metric, bound['value'])}"
    if bound["e_value"] is None:
        sure = "its whole interval is past the bound" if bound["crossed"] else "its interval is not past the bound"
        if bound["shown"]:
            sure = "its whole interval is within"
        return f"{summary}, and {sure}."
    return (
        f"{summary} (e-value against being within it: {evidence(bound['e_value'])}; {bound['needed']:.3g} crosses it)."
    )
