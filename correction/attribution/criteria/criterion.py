"""What a criterion is: a way to score components while a model reads samples."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, get_args

import torch
from torch import Tensor

from correction.attribution.criteria.criterion_settings import OutputSeed, Settings
from correction.attribution.criteria.output_seeds import SeededBatch
from correction.attribution.relevance import Granularity
from correction.errors import CriterionError
from correction.models import LoadedModel

Zeros = Callable[[str, tuple[int, ...], torch.device], Tensor]
"""Where scores add up: (name, shape, device of the module) → a float32 tensor of zeros, there or elsewhere."""


def on_device(name: str, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Beside the module."""
    return torch.zeros(shape, dtype=torch.float32, device=device)


class Score(Protocol):
    """The score of one matrix's or one layer's components while it grows.

    `sum`, float32, adds up over samples, in any order and over several processes; `mean` makes the score of it.
    """

    sum: Tensor

    def mean(self, samples: int) -> Tensor:
        """The score, averaged over the samples that were seen: float32; `sum` may be used up."""
        ...


@dataclass(frozen=True)
class Attached:
    """A criterion on a model: its scores by name, in component order, and how a batch is added to all of them."""

    scores: Mapping[str, Score]
    see: Callable[[SeededBatch], None]


@dataclass(frozen=True)
class Criterion:
    """A criterion.

    Attributes:
        name: What it is called.
        attach: A context manager that puts it on a model and, on leaving, puts everything back.
        granularities: What it can score.
        uses: Which of the settings `seed`, `sign`, `baseline`, `random_seed` the criterion reads.
        seed: The only output seed that it is defined for, if so.
        weights: Of the tokens of a text, given their number, where they are not to count for 1 / their number.
        reads: Whether scores depend on what is read. Of one that does not, general and behaviour scores are the same.
    """

    name: str
    attach: Callable[[LoadedModel, Settings, Zeros], AbstractContextManager[Attached]]
    granularities: frozenset[Granularity] = frozenset(get_args(Granularity))
    uses: frozenset[str] = frozenset()
    seed: OutputSeed | None = None
    weights: Callable[[int], tuple[float, ...] | None] = lambda tokens: None
    reads: bool = True

    def check(self, settings: Settings) -> None:
        """Refuse what this criterion cannot score.

        Raises:
            CriterionError: It cannot score components of this granularity.
        """
        if settings.granularity not in self.granularities:
            possible = ", ".join(f"{each}s" for each in get_args(Granularity) if each in self.granularities)
            raise CriterionError(f"{self.name} cannot score {settings.granularity}s; it scores {possible}")
        if settings.baseline != "zero" and "baseline" not in self.uses:
            raise CriterionError(f"{self.name} has no baseline: only lrp and gradient hold activations against one")
