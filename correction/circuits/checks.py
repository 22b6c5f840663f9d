"""What speaks for a circuit beside its faithfulness: necessity, completeness, minimality (Wang et al. 2023)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from correction.circuits.circuit_ablation import Ablation, Kept
from correction.circuits.metric import distance, faithfulness_drop, necessity
from correction.circuits.order import circuit_size, difference
from correction.circuits.task_answers import TaskAnswers, TaskReader
from correction.progress import Progress, silent
from stats.estimates import Estimate


@dataclass(frozen=True)
class Incompleteness:
    """How far circuit and model part when the same components are taken out of both: 0 where nothing is missing.

    Attributes:
        mean: Over the drawn subsets K of |m(C∖K) − m(N∖K)| / |m(N) − m(∅)|.
        worst: The largest of them, with its interval.
        subsets: How many were drawn, each half of the circuit.
    """

    mean: float
    worst: Estimate
    subsets: int


@dataclass(frozen=True)
class Minimality:
    """What single components of a circuit add to its faithfulness.

    Attributes:
        falls: Component → (m(C) − m(C∖v)) / (m(N) − m(∅)), by the name of its score and its index.
        of: Components in the circuit, of which these were tried.
    """

    falls: dict[tuple[str, int], Estimate]
    of: int

    @property
    def needed(self) -> int:
        """How many of those tried the circuit is the worse without: the interval lies over 0."""
        return sum(each.low > 0 for each in self.falls.values())


def measure_necessity(
    reader: TaskReader, kept: Kept, how: Ablation, model: TaskAnswers, nothing: TaskAnswers
) -> Estimate | None:
    """The share of what the model does that goes when the circuit alone is cut; None as for faithfulness."""
    rest = reader.read(difference(reader.everything, kept), how)
    return necessity(rest.differences, model.differences, nothing.differences)


def incompleteness(
    reader: TaskReader,
    kept: Kept,
    how: Ablation,
    model: TaskAnswers,
    nothing: TaskAnswers,
    *,
    subsets: int = 5,
    seed: int = 0,
    progress: Progress = silent,
) -> Incompleteness | None:
    """Take random halves of the circuit out of it and out of the model; None as for faithfulness."""
    generator = torch.Generator().manual_seed(seed)
    distances = []
    for number in range(1, subsets + 1):
        half = {name: flags & (torch.rand(flags.shape, generator=generator) < 0.5) for name, flags in kept.items()}
        one = reader.read(difference(kept, half), how)
        other = reader.read(difference(reader.everything, half), how)
        estimate = distance(one.differences, other.differences, model.differences, nothing.differences)
        if estimate is None:
            return None
        distances.append(estimate)
        progress("completeness", number, subsets)
    worst = max(distances, key=lambda each: each.value)
    return Incompleteness(float(np.mean([each.value for each in distances])), worst, subsets)


def minimality(
    reader: TaskReader,
    kept: Kept,
    how: Ablation,
    circuit: TaskAnswers,
    model: TaskAnswers,
    nothing: TaskAnswers,
    *,
    tried: int = 20,
    seed: int = 0,
    progress: Progress = silent,
) -> Minimality | None:
    """Take single components out of the circuit, at most `tried` drawn ones; None as for faithfulness."""
    everyone = list(members(kept))
    drawn = np.random.default_rng(seed).permutation(len(everyone))[:tried]
    falls = {}
    for number, place in enumerate(sorted(int(each) for each in drawn), 1):
        name, index = everyone[place]
        smaller = dict(kept) | {name: kept[name].clone()}
        smaller[name].view(-1)[index] = False
        left = reader.read(smaller, how)
        drop = faithfulness_drop(circuit.differences, left.differences, model.differences, nothing.differences)
        if drop is None:
            return None
        falls[name, index] = drop
        progress("minimality", number, len(drawn))
    return Minimality(falls, circuit_size(kept))


def members(kept: Kept) -> Sequence[tuple[str, int]]:
    """The components of a circuit: name of the score and flat index, in component order."""
    return [(name, int(place)) for name, flags in kept.items() for place in flags.view(-1).nonzero()[:, 0]]
