"""Cells of the tables, on a page and in a terminal: a figure first, then its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from service.experiments.experiment import Goal, Mean, Rate
from service.experiments.report.number_format import (
    NAMES,
    NOTHING,
    between,
    percent,
    points,
    points_interval,
    seconds,
    signed,
    tokens,
)
from service.experiments.report.report_document import Comparison, Difference, Estimate, Offline, Share, VariantFigures

Cell = tuple[str, ...]

SCALES: dict[Mean, str] = {"coherence": "coherence, nats a token", "feedback": "feedback, −1 to 1"}


def whole(metric: Goal) -> str:
    """Name of what a chart shows, with its unit."""
    return SCALES["feedback"].capitalize() if metric == "feedback" else f"{NAMES[metric].capitalize()}, %"


def unit_rate(variant: VariantFigures, rate: Rate) -> Cell:
    """A rate over units."""
    figures = variant["rates"][rate]
    return percent(figures["unit_value"]), between(percent(figures["low"]), percent(figures["high"]))


def every_rate(variant: VariantFigures, rate: Rate) -> Cell:
    """A rate over every response."""
    figures = variant["rates"][rate]
    return percent(figures["value"]), f"{figures['events']:,} of {figures['trials']:,}" if figures["trials"] else ""


def difference(found: Difference) -> Cell:
    """A difference of rates, in points."""
    return points(found["value"]), points_interval(found)


def length(variant: VariantFigures) -> Cell:
    """Mean tokens of a response."""
    estimate = variant["length"]
    return tokens(estimate["value"]), between(tokens(estimate["low"]), tokens(estimate["high"]))


def length_gap(comparison: Comparison) -> Cell:
    """Difference of mean tokens."""
    estimate = comparison["length"]
    value, low, high = (_signed(each, 1) for each in (estimate["value"], estimate["low"], estimate["high"]))
    return value, between(low, high)


def offline(variants: Sequence[VariantFigures]) -> Iterator[tuple[str, list[Cell]]]:
    """Rows of what was measured of masks before they were served; none where nothing was."""
    kinds: dict[str, Callable[[Offline], Cell]] = {
        "perplexity": _rise,
        "shows the behaviour": lambda found: _sides(found["behaviour"]),
        NAMES["toxicity"]: lambda found: _sides(found["toxicity"]),
        NAMES["repetition"]: lambda found: _sides(found["repetition"]),
    }
    for what, cell in kinds.items():
        row: list[Cell] = [cell(figures) if (figures := each["offline"]) else (NOTHING,) for each in variants]
        if any(each != (NOTHING,) for each in row):
            yield f"{what}, offline", row


def _rise(found: Offline) -> Cell:
    rise = found["perplexity"]
    if rise["value"] is None:
        return (NOTHING,)
    low, high = (NOTHING if each is None else f"{signed(100 * each, 1)}%" for each in (rise["low"], rise["high"]))
    return f"{signed(100 * rise['value'], 1)}%", between(low, high)


def _sides(share: Share) -> Cell:
    """`35.7% → 4.80%`."""
    before, after = share["before"], share["after"]
    return (NOTHING,) if before is None or after is None else (f"{percent(before)} → {percent(after)}",)


def scale(variant: VariantFigures, what: Mean) -> Cell:
    """Mean coherence, in nats a token, or feedback."""
    estimate = variant[what]
    return _signed(estimate["value"], 2), between(_signed(estimate["low"], 2), _signed(estimate["high"], 2))


def scale_gap(comparison: Comparison, what: Mean) -> Cell:
    """Difference of the same."""
    estimate = comparison[what]
    return _signed(estimate["value"], 2), between(_signed(estimate["low"], 2), _signed(estimate["high"], 2))


def cut_off(variant: VariantFigures) -> Cell:
    """How many responses ended at the token limit."""
    share = variant["truncated"] / variant["responses"] if variant["responses"] else None
    return f"{variant['truncated']:,}", percent(share) if share is not None else ""


def latency(variant: VariantFigures) -> Cell:
    """Mean seconds of a response."""
    return _times(variant["latency"])


def p95(variant: VariantFigures) -> Cell:
    """Its 95th percentile."""
    return _times(variant["latency_p95"])


def latency_gap(comparison: Comparison) -> Cell:
    """Difference of mean seconds, in milliseconds."""
    estimate = comparison["latency"]
    if estimate is None or estimate["value"] is None:
        return (NOTHING,)
    value, low, high = (_milliseconds(each) for each in (estimate["value"], estimate["low"], estimate["high"]))
    return f"{value} ms", between(low, high)


def _times(found: Estimate | None) -> Cell:
    if found is None:
        return (NOTHING,)
    return seconds(found["value"]), between(seconds(found["low"]), seconds(found["high"]))


def _signed(number: float | None, digits: int) -> str:
    return NOTHING if number is None else signed(number, digits)


def _milliseconds(time: float | None) -> str:
    return NOTHING if time is None else signed(1000 * time, 0)
