"""Non-inferiority: whether a figure is worse by no more than a margin, by the interval of its paired difference.

The rule of non-inferiority trials (Piaggio et al. 2012, JAMA 308:2594): shown where the whole interval is within the
margin, refuted where the whole of it is beyond, and else not shown. An interval that holds 0 shows nothing by itself:
with few items it is wide, and reaches beyond the margin. A bootstrap over very few is too narrow instead, and over one
has no width at all: fewer than `FEWEST` show nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any, Literal

from correction.errors import EvaluationError
from correction.evaluation.json_values import interval_values, round_digits
from stats.estimates import Estimate

Verdict = Literal["yes", "no", "not shown"]
Worse = Literal["higher", "lower", "either"]

FEWEST = 10
"""Items that a statement needs."""


@dataclass(frozen=True)
class Statement:
    """One figure before and after, and whether it is worse by no more than its margin.

    Attributes:
        measure: What was measured.
        before: The figure of the base model and of the cut one.
        after: The figure of the base model and of the cut one.
        difference: After − before; where `relative`, after / before − 1.
        worse: The direction that is. Where `either`, the figure is to stay the same: an equivalence.
        margin: By how much it may be worse, in the units of the difference.
        items: Paired items that the interval is over.
    """

    measure: str
    before: float
    after: float
    difference: Estimate
    worse: Worse
    margin: float
    items: int
    relative: bool = False

    @property
    def not_worse(self) -> Verdict:
        """Whether the figure is not worse by more than the margin."""
        low, high = self.difference.low, self.difference.high
        if self.items < FEWEST:
            return "not shown"
        if self.worse == "lower":
            low, high = -high, -low
        within, beyond = high <= self.margin, low > self.margin
        if self.worse == "either":
            within, beyond = within and low >= -self.margin, beyond or high < -self.margin
        return "yes" if within else "no" if beyond else "not shown"

    def summary(self) -> dict[str, Any]:
        """JSON values; the difference as [value, low, high]."""
        return {
            "measure": self.measure,
            "before": round_digits(self.before),
            "after": round_digits(self.after),
            "difference": interval_values(self.difference),
            "relative": self.relative,
            "worse": self.worse,
            "margin": self.margin,
            "items": self.items,
            "not_worse": self.not_worse,
        }


@dataclass(frozen=True)
class Margins:
    """How much worse each figure of a card may be.

    Attributes:
        perplexity: Relative increase.
        kl: Nats per token.
        agreement: Share of tokens.
        length: Relative change of the mean, to either side.
        uniqueness: Of the mean ratio.
        copying: Of the accuracy.
        refusals: Of the rate.
        behaviour: Of rates and scores of what is to be removed; 0: it must not have grown at all.
    """

    perplexity: float = 0.02
    kl: float = 0.02
    agreement: float = 0.1
    length: float = 0.1
    uniqueness: float = 0.05
    copying: float = 0.02
    refusals: float = 0.05
    behaviour: float = 0.0

    def __post_init__(self) -> None:
        for name, margin in vars(self).items():
            if not isfinite(margin) or margin < 0:
                raise EvaluationError(f"margin {name} is {margin}; it must be 0 or a positive number")

    @classmethod
    def parsed(cls, given: Sequence[str]) -> "Margins":
        """These margins, each written as NAME=VALUE, and the others as they are.

        Raises:
            EvaluationError: No such margin, or no such number.
        """
        known = [field.name for field in fields(cls)]
        margins: dict[str, float] = {}
        for each in given:
            name, _, value = each.partition("=")
            try:
                margins[name] = float(value)
            except ValueError:
                raise EvaluationError(f"margin {each!r} is not NAME=NUMBER, such as perplexity=0.01") from None
            if name not in known:
                raise EvaluationError(f"there is no margin {name!r}; there is: {', '.join(known)}")
        return cls(**margins)
