"""Samples: the tallies of an experiment as the tests take them, variant by variant and epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence

from service.experiments.experiment import Experiment, Rate
from service.experiments.outcomes.totals import Tally, Totals
from stats.sequential import Count, Moments, Stratum


class Samples:
    """All that is known of an experiment's responses. Tallies of unknown variants or epochs are left out.

    A replica may write in an epoch that this one has not heard of yet; the next report has it.
    """

    def __init__(self, experiment: Experiment, tallies: Sequence[Tally]) -> None:
        self.experiment = experiment
        self._all: dict[str, Totals] = {variant.name: Totals() for variant in experiment.variants}
        self._units: dict[tuple[int, str], Totals] = {}
        self._every: dict[tuple[int, str], Totals] = {}
        for tally in tallies:
            if tally.variant in self._all and 0 <= tally.epoch <= experiment.epoch:
                self._all[tally.variant] += tally.all
                place = tally.epoch, tally.variant
                self._units[place] = self.units_in(*place) + tally.units
                self._every[place] = self._every.get(place, Totals()) + tally.all

    def all(self, variant: str) -> Totals:
        """Every response of a variant."""
        return self._all[variant]

    def units_in(self, epoch: int, variant: str) -> Totals:
        """One response a unit, of a variant in an epoch."""
        return self._units.get((epoch, variant), Totals())

    def units(self, variant: str) -> Totals:
        """One response a unit, of a variant."""
        return sum((self.units_in(epoch, variant) for epoch in self.epochs), Totals())

    @property
    def epochs(self) -> range:
        """Numbers of the epochs so far."""
        return range(len(self.experiment.shares))

    def strata(self, variant: str, rate: Rate, *, every: bool = False) -> list[Stratum]:
        """Control and variant in each epoch that has any of them.

        Args:
            variant: its name.
            rate: what is counted.
            every: all responses, not one a unit.
        """
        strata, totals = [], self._every if every else self._units
        for epoch in self.epochs:
            control = count(totals.get((epoch, self.experiment.control), Totals()), rate)
            treatment = count(totals.get((epoch, variant), Totals()), rate)
            share = self.share(epoch, variant)
            if (control.trials or treatment.trials) and 0 < share < 1:
                strata.append(Stratum(control, treatment, share))
        return strata

    def moments(self, variant: str, what: str) -> list[tuple[Moments, Moments]]:
        """See `moments` below, of control and variant in each epoch that has both."""
        pairs = []
        for epoch in self.epochs:
            pair = tuple(moments(self.units_in(epoch, name), what) for name in (self.experiment.control, variant))
            if all(each.n for each in pair):
                pairs.append((pair[0], pair[1]))
        return pairs

    def share(self, epoch: int, variant: str) -> float:
        """Designed share of the variant among the counted units of control and variant, 0 to 1.

        A unit that is copied counts for its shown or for its mirrored response, by a fair coin.
        """
        shares, mirror = self.experiment.shares[epoch], self.experiment.variant(variant).mirror
        shown = 1 - sum(each.mirror for each in self.experiment.mirrors) / 2
        control = shares.get(self.experiment.control, 0.0) * shown
        treatment = mirror / 2 if mirror else shares.get(variant, 0.0) * shown
        return treatment / (treatment + control) if treatment + control else 0.0


def count(totals: Totals, rate: Rate) -> Count:
    """Events and trials of a rate. Toxicity, repetition and refusal are rates of scored responses."""
    if rate == "error":
        return Count(totals.errors, totals.responses + totals.errors)
    events = {"toxicity": totals.toxic, "repetition": totals.repetitive, "refusal": totals.refusals}
    return Count(events[rate], totals.scored)


def moments(totals: Totals, what: str) -> Moments:
    """Of `length` in tokens, `latency` in seconds, `coherence` in nats a token, or `feedback`."""
    if what == "coherence":
        return Moments(totals.judged, totals.coherence, totals.coherence_squared)
    if what == "feedback":
        return Moments(totals.rated, totals.feedback, totals.feedback_squared)
    if what == "length":
        return Moments(totals.responses, totals.tokens, totals.tokens_squared)
    return Moments(totals.responses, totals.seconds, totals.seconds_squared)


def value(counted: Count) -> float | None:
    """A rate; None without trials."""
    return counted.events / counted.trials if counted.trials else None


def mean(sums: Moments) -> float | None:
    """A mean; None of nothing."""
    return sums.total / sums.n if sums.n else None


def difference(pairs: Sequence[tuple[Moments, Moments]]) -> float | None:
    """Treatment − control within epochs, weighted by n·m / (n + m) (Mantel and Haenszel); None without a pair.

    Each of a pair has n over 0.
    """
    if not pairs:
        return None
    weights = [control.n * treatment.n / (control.n + treatment.n) for control, treatment in pairs]
    gaps = [treatment.total / treatment.n - control.total / control.n for control, treatment in pairs]
    return sum(weight * gap for weight, gap in zip(weights, gaps, strict=True)) / sum(weights)


def rate_difference(strata: Sequence[Stratum]) -> float | None:
    """The same of rates."""
    pairs = [
        (Moments(s.control.trials, s.control.events, 0.0), Moments(s.treatment.trials, s.treatment.events, 0.0))
        for s in strata
        if s.control.trials and s.treatment.trials
    ]
    return difference(pairs)
