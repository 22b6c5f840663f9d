"""What a search tried and what it found."""

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from correction.search.strength import Gated, gated_count
from stats.estimates import Estimate


@dataclass(frozen=True)
class Trial:
    """One cut, verified by ablation on the validation sets.

    Attributes:
        label: What proposed its last part.
        round: From 1 on; 0 for the model as it is.
        behaviour_rate: Share of validation responses that show the behaviour; +inf where the model was not asked, since
            the cut is over the budget.
        increase: Of perplexity, relative, with the interval that is held against the budget.
        divergence: KL from the model as it is, nats a token; None where that is not limited.
        gated: The components, with their gates.
        repetitive: Difference of the share of repetitive or empty validation responses, after − before, 95% interval.
    """

    label: str
    round: int
    behaviour_rate: float
    increase: Estimate
    divergence: float | None
    gated: Gated = field(repr=False)
    repetitive: Estimate

    @property
    def count(self) -> int:
        """Components, over all rounds."""
        return gated_count(self.gated)

    def described(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "ranking": self.label,
            "round": self.round,
            "count": self.count,
            "shown": round(self.behaviour_rate, 4) if isfinite(self.behaviour_rate) else None,
            "increase": [float(f"{each:.3g}") for each in (self.increase.value, self.increase.low, self.increase.high)],
            **({} if self.divergence is None else {"kl": float(f"{self.divergence:.3g}")}),
            "repetitive": round(self.repetitive.value, 4),
        }


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        chosen: The cut with the least of the behaviour within the budget, on the validation sets.
        tried: Every cut that was verified, the model as it is first.
    """

    chosen: Trial
    tried: tuple[Trial, ...]

    @property
    def front(self) -> tuple[Trial, ...]:
        """The Pareto front: those within the budget that no other one beats in both behaviour and perplexity."""
        front: list[Trial] = []
        answered = (trial for trial in self.tried if isfinite(trial.behaviour_rate))
        for trial in sorted(answered, key=lambda trial: (trial.increase.value, trial.behaviour_rate)):
            if not front or trial.behaviour_rate < front[-1].behaviour_rate:
                front.append(trial)
        return tuple(front)
