"""Verifying cuts on the sets that choose: what they do to the behaviour and to perplexity."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from correction.ablation import ablated
from correction.behaviour_set import answer
from correction.correct import mask_of
from correction.evaluation.bootstrap import Estimate, bootstrap
from correction.evaluation.perplexity import Perplexity, increase, perplexity
from correction.models import LoadedModel
from correction.recipe import Selected
from correction.references import ReferenceSet
from correction.symptoms import Symptom


@dataclass(frozen=True)
class Validation:
    """The sets that choose, and how they are measured."""

    loaded: LoadedModel
    prompts: ReferenceSet
    text: ReferenceSet
    test: Symptom
    asking: Mapping[str, Any]
    confidence: float
    before: Perplexity

    def increase(self, selected: Selected) -> Estimate:
        """Of the perplexity, by a cut."""
        with self.cut(selected):
            after = self._read()
        pair = self.before.losses, after.losses, self.before.tokens
        return bootstrap(increase, *pair, confidence=self.confidence, resamples=1000)

    def shown(self, selected: Selected) -> float:
        """Share of the responses that count as showing the behaviour, under a cut."""
        with self.cut(selected):
            found = answer(self.loaded, self.prompts, self.test, **self.asking)
        return float(self.test.counted(found.responses, found.scores).mean())

    def cut(self, selected: Selected) -> Any:
        """A context in which these components are cut."""
        if not selected:
            return nullcontext()
        return ablated(self.loaded, mask_of(self.loaded, selected, name="search", made={}))

    def _read(self) -> Perplexity:
        return perplexity(self.loaded, self.text, tokens=self.asking.get("tokens", 4096))


def longest_within(fits: Callable[[int], bool], most: int, precision: float = 0.05) -> int:
    """The largest count up to `most` that fits, to a relative precision; 0 where none does.

    Doubles from a 500th of `most`, then halves the interval: as if more never cost less.
    """
    low, high = 0, 0
    count = max(1, most // 500)
    while count <= most:
        if not fits(count):
            high = count
            break
        low = count
        if count == most:
            return most
        count = min(2 * count, most)
    while high - low > max(1, precision * low) and high > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
