"""Curves over kept shares, and the smallest circuit that is faithful enough."""

from collections.abc import Sequence
from dataclasses import dataclass

from correction.attribution.relevance import Relevance
from correction.circuits.circuit_ablation import Ablation
from correction.circuits.metric import SHARES, Areas, areas, faithfulness
from correction.circuits.order import top_components
from correction.circuits.task_answers import TaskAnswers, TaskReader
from correction.errors import SelectionError
from correction.progress import Progress, silent
from stats.estimates import Estimate


@dataclass(frozen=True)
class Curve:
    """Faithfulness against the share that is kept.

    Attributes:
        label: Of the order: the criterion.
        seed: Of what was drawn for it.
        ablation: What the rest is replaced by.
        counts: Components kept at each of the `shares`.
        faithfulness: At each of them; None where it is not defined.
        accuracy: At each of them.
    """

    label: str
    seed: int
    ablation: str
    shares: tuple[float, ...]
    counts: tuple[int, ...]
    faithfulness: tuple[Estimate | None, ...]
    accuracy: tuple[float, ...]
    areas: Areas | None


class CircuitEvaluator:
    """Reads circuits of one order in growing sizes, each size once.

    Args:
        model: The model as it is, and none of the universe.
        nothing: The model as it is, and none of the universe.
    """

    def __init__(
        self, reader: TaskReader, order: Relevance, how: Ablation, model: TaskAnswers, nothing: TaskAnswers
    ) -> None:
        self.reader, self.order, self.how = reader, order, how
        self.model, self.nothing = model, nothing
        self._seen = {0: nothing, len(order): model}

    def reading(self, count: int) -> TaskAnswers:
        """Of the first `count` components alone."""
        if count not in self._seen:
            self._seen[count] = self.reader.read(top_components(self.order, count), self.how)
        return self._seen[count]

    def faithfulness(self, count: int) -> Estimate | None:
        """Of the first `count` components alone."""
        return faithfulness(self.reading(count).differences, self.model.differences, self.nothing.differences)


def curve(
    trier: CircuitEvaluator, label: str, seed: int = 0, *, shares: Sequence[float] = SHARES, progress: Progress = silent
) -> Curve:
    """Faithfulness at each share; as many components are kept as its part of all rounds down to, as in MIB."""
    counts = tuple(int(share * len(trier.order)) for share in shares)
    readings = []
    for number, count in enumerate(counts, 1):
        readings.append(trier.reading(count))
        progress(f"curve, {label} {seed}, {trier.how.kind}", number, len(counts))
    ends = trier.model.differences, trier.nothing.differences
    return Curve(
        label,
        seed,
        trier.how.kind,
        tuple(shares),
        counts,
        tuple(faithfulness(each.differences, *ends) for each in readings),
        tuple(float(each.right.mean()) for each in readings),
        areas(shares, [each.differences for each in readings], *ends),
    )


def smallest_faithful(
    trier: CircuitEvaluator,
    goal: float,
    *,
    shares: Sequence[float] = SHARES,
    steps: int = 6,
    progress: Progress = silent,
) -> int:
    """The fewest components of the order whose faithfulness reaches the goal, found by `steps` halvings.

    The first of the shares that reaches it is taken, and the stretch below it halved: faithfulness need not rise with
    every component, so that a smaller size may reach the goal too, but none of the shares below does.

    Raises:
        SelectionError: Faithfulness is not defined, or no size but all reaches the goal.
    """
    total = len(trier.order)
    low, high = 0, 0
    for share in shares:
        count = int(share * total)
        estimate = trier.faithfulness(count)
        if estimate is None:
            raise SelectionError(
                "the model does as well with none of the universe as with all of it, as far as these rows tell, so "
                "that faithfulness is not defined; take more rows, another universe, or another ablation"
            )
        progress("size", count, total)
        if estimate.value >= goal:
            high = count
            break
        low = count
    for _ in range(steps):
        middle = (low + high) // 2
        if middle in (low, high):
            break
        estimate = trier.faithfulness(middle)
        low, high = (low, middle) if estimate is not None and estimate.value >= goal else (middle, high)
        progress("size", high, total)
    progress("size", total, total)
    if high in (0, total):
        raise SelectionError(f"by this order, no part of the universe but all of it reaches a faithfulness of {goal}")
    return high
