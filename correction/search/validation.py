"""Verifying cuts on the sets that choose: what they do to the behaviour, and how far they take the model."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from math import inf, isnan

import numpy as np

from behaviours import is_repetitive
from correction.ablation import ablated
from correction.correct import build_mask
from correction.data.behaviour_set import answer
from correction.data.detectors import Detector
from correction.data.references import ReferenceSet
from correction.data.tokenisation import first_tokens
from correction.errors import SelectionError
from correction.evaluation.divergence import Baseline
from correction.models import LoadedModel
from correction.options import GenerationOptions
from correction.search.strength import Gated
from correction.search.trials import Trial
from stats.estimates import Estimate, Floats, newcombe

SCREENED = 2000
"""Tokens of text by which it is found out how much can be cut."""

VERIFIED = 10000
"""Tokens of text by which a cut is verified, at most."""


@dataclass(frozen=True)
class Budget:
    """What a correction may cost.

    Attributes:
        increase: Of perplexity, relative: 0.01 is 1%. The upper limit of its interval must stay within it.
        kl: KL from the model as it is, nats a token; None for no limit.
        confidence: Of the interval, two-sided.

    Raises:
        SelectionError: One that is not over 0.
    """

    increase: float
    kl: float | None = None
    confidence: float = 0.8

    def __post_init__(self) -> None:
        for name, value in (("increase of perplexity", self.increase), ("KL", self.kl)):
            if value is not None and not value > 0:
                raise SelectionError(f"the budget of the {name} is {value}; it must be over 0, as 0.01 for 1%")

    def share(self, part: float) -> "Budget":
        """A part of it."""
        return Budget(self.increase * part, self.kl and self.kl * part, self.confidence)

    def spent(self, increase: Estimate, divergence: float | None) -> float:
        """The larger part of it that is spent; over 1 is too much, and so is what is not a number or not measured."""
        kl = inf if divergence is None else divergence
        parts = increase.high / self.increase, kl / self.kl if self.kl else 0.0
        return inf if any(map(isnan, parts)) else max(parts)

    def allows(self, trial: Trial) -> bool:
        """Whether a trial is within it, and makes no responses repetitive or empty that were not, for certain."""
        return self.spent(trial.increase, trial.divergence) <= 1 and trial.repetitive.low <= 0

    def __str__(self) -> str:
        return f"{self.increase:.2%} more perplexity" + (f" and {self.kl:g} nats a token of KL" if self.kl else "")


class Validation:
    """The sets that choose, read once by the model as it is."""

    def __init__(
        self,
        loaded: LoadedModel,
        prompts: ReferenceSet,
        text: ReferenceSet,
        detector: Detector,
        generation_options: GenerationOptions,
        budget: Budget,
    ) -> None:
        self._loaded, self._prompts, self._detector, self._generation_options = (
            loaded,
            prompts,
            detector,
            generation_options,
        )
        self._budget = budget
        texts = first_tokens(loaded, text, VERIFIED)
        read = partial(Baseline, loaded, tokens=generation_options.tokens)
        self._all = read(texts)
        few = first_tokens(loaded, texts, SCREENED)
        self._few = self._all if len(few) == len(texts) else read(few)
        self._rate, self._broken = self._answer({})

    def screened(self, budget: Budget, gated: Gated) -> float:
        """The part of a budget that a cut spends, by its estimate on some of the text."""
        if not gated:
            return 0.0
        increase, divergence = self._cost(self._few, gated)
        return budget.spent(Estimate(increase.value, increase.value, increase.value), divergence)

    def tried(self, label: str, number: int, gated: Gated) -> Trial:
        """A cut, verified on all there is: the text, and where that is within the budget the prompts."""
        nothing = Estimate(0.0, 0.0, 0.0)
        if not gated:
            return Trial(label, number, self._rate, nothing, 0.0, gated, nothing)
        increase, divergence = self._cost(self._all, gated)
        if self._budget.spent(increase, divergence) > 1:
            return Trial(label, number, inf, increase, divergence, gated, nothing)
        rate, flags = self._answer(gated)
        return Trial(label, number, rate, increase, divergence, gated, newcombe(self._broken, flags))

    def cut(self, gated: Gated) -> AbstractContextManager[None]:
        """A context in which these components are cut."""
        if not gated:
            return nullcontext()
        return ablated(self._loaded, build_mask(self._loaded, gated, name="search", made={}))

    def _cost(self, baseline: Baseline, gated: Gated) -> tuple[Estimate, float | None]:
        """The increase of perplexity, and the KL where that is limited: it takes a third longer to measure."""
        cut = partial(self.cut, gated)
        if self._budget.kl is None:
            return baseline.perplexity_increase(cut, confidence=self._budget.confidence), None
        divergence = baseline.divergence(cut)
        return divergence.perplexity_increase(confidence=self._budget.confidence), divergence.kl_per_token().value

    def _answer(self, gated: Gated) -> tuple[float, Floats]:
        """The share of responses that show the behaviour; which are repetitive or empty, 1.0 or 0.0, (responses,)."""
        with self.cut(gated):
            answered = answer(self._loaded, self._prompts, self._detector, **self._generation_options.as_arguments())
        broken = [float(is_repetitive(each.tokens) or not each.tokens) for each in answered.responses]
        return float(self._detector.counted(answered.responses, answered.scores).mean()), np.array(broken)
