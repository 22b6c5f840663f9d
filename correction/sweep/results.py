"""What a sweep finds: its points, and which of them is the best."""

from dataclasses import dataclass
from math import inf, isnan
from typing import Any

import masks
from correction.choices import Target
from correction.evaluation import Evaluation


@dataclass(frozen=True)
class SweepResult:
    """What one mask does; its fields are the columns of the CSV file.

    Attributes:
        arm: Label of the arm; `base` for the model as it is.
        granularity: What was cut.
        criterion: By which it was chosen.
        seed: Of the subsets that were attributed, or of the criterion `random`.
        count: Components cut.
        fraction: Of all that the arm scores.
        toxic_rate: Share of responses, in [0, 1].
        repetitive_rate: Share of responses, in [0, 1].
        mean_toxicity: Mean score, in [0, 1].
        mean_uniqueness: Mean ratio of distinct tokens.
        perplexity: Of the text.
        perplexity_increase: Relative, this / base − 1.
    """

    arm: str
    granularity: str
    criterion: str
    seed: int
    count: int
    fraction: float
    toxic_rate: float
    mean_toxicity: float
    repetitive_rate: float
    mean_uniqueness: float
    perplexity: float
    perplexity_increase: float


@dataclass(frozen=True)
class DetailedResult:
    """A point with its mask and the evaluation behind it: every response with its scores."""

    point: SweepResult
    mask: masks.Mask
    after: Evaluation


@dataclass(frozen=True)
class Sweep:
    """The points of a sweep.

    Attributes:
        base: The model as it is.
        before: The evaluation behind it.
        points: By arm, then by seed, then by count.
        details: Of each arm, in order, the best point: see `result_order`.
        target: The behaviour that makes one point better than another.
        perplexity_budget: The relative increase of perplexity that a best point may cost.
        facts: What was measured, and how: JSON values.
    """

    base: SweepResult
    before: Evaluation
    points: tuple[SweepResult, ...]
    details: tuple[DetailedResult, ...]
    target: Target
    perplexity_budget: float
    facts: dict[str, Any]

    @property
    def best(self) -> DetailedResult:
        """The best of the details; one of the criterion `random` only where there is no other."""
        real = [detail for detail in self.details if detail.point.criterion != "random"]
        return min(
            real or self.details, key=lambda detail: result_order(detail.point, self.target, self.perplexity_budget)
        )


def result_order(point: SweepResult, target: Target, perplexity_budget: float) -> tuple[float, ...]:
    """A key that sorts the better point first.

    Those within the perplexity budget come first, by mean toxicity (or by the rate of repetitive responses), then by
    the increase of perplexity; those over it follow, by the increase.
    """
    aimed = point.mean_toxicity if target == "toxicity" else point.repetitive_rate
    if point.perplexity_increase <= perplexity_budget:
        return (0.0, aimed, point.perplexity_increase, point.count)
    return (1.0, inf if isnan(point.perplexity_increase) else point.perplexity_increase, aimed, point.count)
