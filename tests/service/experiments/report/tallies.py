"""Experiments and tallies made by hand, for the tests of reports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from service.experiments.experiment import Experiment, Variant, begin
from service.experiments.outcomes.totals import LATENCY_EDGES, Tally, Totals

HARMFUL: dict[str, Any] = {
    "difference": {"perplexity": [2.45, 2.1, 2.9], "repetitive": [0.6429, 0.34, 0.83]},
    "before": {"repetitive": [5, 14, 0.16, 0.61]},
    "after": {"repetitive": [14, 14, 0.78, 1.0]},
}
"""Measured of a mask that breaks the model: figures and two warnings."""

BEGAN = 1_760_000_000.0
LATER = BEGAN + 36_000


def experiment(*variants: Variant, **more: Any) -> Experiment:
    """Running since ``BEGAN``; without variants: base against detox, half and half."""
    arms = variants or (Variant("base", "base", 1.0), Variant("detox", "detox@1", 1.0))
    return begin(Experiment("tone", arms, arms[0].name, salt="salt", **more), BEGAN)


def ramped(one: Experiment, *shares: dict[str, float]) -> Experiment:
    """The same after further epochs with these shares."""
    return replace(one, shares=(*one.shares, *shares))


def totals(
    n: int,
    toxic: int = 0,
    *,
    repetitive: int = 0,
    refusals: int = 0,
    errors: int = 0,
    length: int = 80,
    seconds: float = 0.5,
    scored: int | None = None,
    truncated: int = 0,
    anonymous: int = 0,
    coherence: float | None = None,
    judged: int | None = None,
    feedback: float | None = None,
) -> Totals:
    """Of ``n`` responses whose lengths are ``length`` ± 10 tokens, half and half, and all as slow as the others.

    Coherences, of ``judged`` or all, are ± 0.3 about ``coherence``, and feedback is ± 0.2, half and half.
    """
    known = 0 if coherence is None else n if judged is None else judged
    rated = 0 if feedback is None else n
    bucket = next((i for i, edge in enumerate(LATENCY_EDGES) if seconds <= edge), len(LATENCY_EDGES))
    return Totals(
        responses=n,
        errors=errors,
        tokens=n * length,
        tokens_squared=n * (length**2 + 100),
        seconds=n * seconds,
        seconds_squared=n * seconds**2 * 1.25,
        scored=n if scored is None else scored,
        toxic=toxic,
        repetitive=repetitive,
        refusals=refusals,
        truncated=truncated,
        anonymous=anonymous,
        judged=known,
        coherence=known * (coherence or 0.0),
        coherence_squared=known * ((coherence or 0.0) ** 2 + 0.09),
        rated=rated,
        feedback=rated * (feedback or 0.0),
        feedback_squared=rated * ((feedback or 0.0) ** 2 + 0.04),
        latency=tuple(n if place == bucket else 0 for place in range(len(LATENCY_EDGES) + 1)),
    )


def tally(variant: str, counted: Totals, *, epoch: int = 0, every: Totals | None = None) -> Tally:
    """``counted`` of the units; as every response, the same unless given."""
    return Tally(epoch, variant, every or counted, counted)
