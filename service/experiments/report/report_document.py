"""The report as a document: what `GET /experiments/{name}/report` answers, and all that pictures are drawn from.

Everything is JSON: no NaN and no infinity, `null` where nothing is known. Rates and differences of rates are
fractions (0.01 is one percent, or one percentage point), lengths are tokens, times are seconds.
"""

from __future__ import annotations

import math
from typing import Literal, TypedDict

from service.experiments.experiment import Goal, Metric, Rate

FORMAT = 2
"""Version of this shape; raised when a reader of the old one would be wrong."""
LARGEST = 1e300
"""E-values beyond it are written as it: JSON knows no larger numbers."""

Decision = Literal[
    "keep watching", "better", "worse", "no difference that matters", "guardrail crossed", "broken split"
]


class Estimate(TypedDict):
    """A figure with its anytime-valid interval. An end is null where data do not bound it."""

    value: float | None
    low: float | None
    high: float | None


class RateFigures(TypedDict):
    """One rate of one variant, over every response and over one response a unit."""

    events: int
    trials: int
    value: float | None
    """Over every response: descriptive, for responses to one user are not independent."""
    unit_events: int
    unit_trials: int
    unit_value: float | None
    low: float | None
    high: float | None
    """The interval of the rate over units, at the report's `alpha`."""


class Share(TypedDict):
    """Of held-out responses, without and with a mask."""

    before: float | None
    after: float | None


class Offline(TypedDict):
    """What was measured of a mask before it was served, on what was held out when it was made."""

    perplexity: Estimate
    """Relative increase: 0.01 is one percent."""
    behaviour: Share
    toxicity: Share
    repetition: Share


class VariantFigures(TypedDict):
    """What was seen of one variant."""

    name: str
    mask: str
    warnings: list[str]
    """What its mask says against itself; it comes from outside, as `offline` does."""
    offline: Offline | None
    """Null without a mask."""
    role: Literal["control", "shown", "mirrored"]
    share: float
    """Of the units, in force; of a mirrored variant: of the units that are copied."""
    responses: int
    errors: int
    truncated: int
    """Cut off by the token limit."""
    anonymous: int
    """Responses and failed requests without a user, in an experiment by user: shown, and in no test."""
    scored: int
    judged: int
    """Responses of known coherence."""
    rated: int
    """Responses that somebody gave feedback on."""
    units: int
    """Counted in the tests: one response or failed request each."""
    rates: dict[Rate, RateFigures]
    length: Estimate
    """Mean tokens of a response, over units."""
    coherence: Estimate
    """Mean log-probability a token under the base model, nats, over units judged. High for loops, too."""
    feedback: Estimate
    """Mean of −1 to 1, over units rated."""
    latency: Estimate | None
    """Mean seconds of a response, over units; null for a mirrored variant, which answers at lower priority."""
    latency_p95: Estimate | None


class Difference(Estimate):
    """Variant − control of one rate, over units, within epochs. The interval is at `comparison_alpha`."""

    e_value: float | None
    """Evidence against "no difference", at most 1e300; null without data."""
    p_value: float | None
    """1 / e-value, at most 1: valid at every look."""


class Comparison(TypedDict):
    """One variant against the control."""

    variant: str
    decision: Decision
    why: str
    differences: dict[Rate, Difference]
    length: Estimate
    coherence: Estimate
    feedback: Estimate
    latency: Estimate | None
    control_units: int
    variant_units: int
    """Units with the metric known: what the decision rests on."""
    minimum_detectable: float | None
    """The smallest difference of the metric's rate that so many units would show by now; null where none, and for
    feedback."""
    more_units: int | None
    """About how many more units of the two a decision needs, if rates stay as they are: 0 where it is made, null where
    nothing is known or 10⁹ would not do."""


class Split(TypedDict):
    """Whether users were split as designed (sample-ratio mismatch), over the variants that users see."""

    broken: bool
    e_value: float | None
    alpha: float
    counted: dict[str, int]
    expected: dict[str, float]
    """Units of each variant by the designed shares of each epoch."""


class Bound(TypedDict):
    """One guardrail and one variant."""

    metric: Metric
    direction: Literal["increase", "decrease"]
    margin: float
    variant: str
    crossed: bool
    shown: bool | None
    """Whether it is shown that the variant stays within the margin: of coherence, "better" waits for it. Of means
    only."""
    value: float | None
    """Variant − control; for `length` and `latency_p95` as a part of the control's."""
    e_value: float | None
    """Evidence that a rate passed the margin; null for the others, which go by their intervals."""
    needed: float
    """The e-value that crosses it: 1 / α, α shared among all guardrails and variants."""
    why: str


class Course(TypedDict):
    """What happened to one variant in some minutes; descriptive, over every response."""

    start: float
    """Seconds since 1970."""
    minutes: int
    variant: str
    responses: int
    value: float | None
    """Of the metric."""


class Report(TypedDict):
    """The whole report. `decision` and `why` come first; the rest is what they rest on."""

    object: Literal["experiment.report"]
    format: int
    experiment: str
    status: Literal["running", "paused", "stopped"]
    reason: str
    winner: str | None
    decision: Decision
    about: list[str]
    """The variants that the decision speaks of."""
    headline: str
    """The decision in words, with their names."""
    why: str
    peeking: str
    warnings: list[str]
    """What speaks against trusting the decision."""
    metric: Goal
    margin: float
    alpha: float
    comparison_alpha: float
    """`alpha` shared among the variants that are compared with the control."""
    control: str
    unit: Literal["user", "request"]
    epoch: int
    created_at: float
    made_at: float
    """Seconds since 1970."""
    variants: list[VariantFigures]
    """The control first."""
    comparisons: list[Comparison]
    split: Split
    guardrails: list[Bound]
    course: list[Course]
    """Of the last days that are kept, by time and variant."""
    notes: list[str]


def decisive(comparison: Comparison, metric: Goal) -> Estimate:
    """The difference that the decision is about."""
    if metric == "feedback":
        return comparison["feedback"]
    return comparison["differences"][metric]


def known(number: float | None) -> float | None:
    """The number, or None where JSON has none for it."""
    return number if number is not None and math.isfinite(number) else None


def estimate(value: float | None, interval: tuple[float, float] | None) -> Estimate:
    """A figure and its interval; what is infinite is unknown."""
    low, high = interval or (None, None)
    return {"value": known(value), "low": known(low), "high": known(high)}


def e_value(log_e: float) -> float:
    """From its logarithm, as JSON can hold it."""
    return math.exp(min(log_e, math.log(LARGEST)))
