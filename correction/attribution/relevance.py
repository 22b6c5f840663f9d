"""Scores by component: what a criterion yields, and what contrast and selection read."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from correction.choices import Granularity


@dataclass(frozen=True)
class Relevance:
    """Relevance of every component, averaged over the samples of a reference set.

    Attributes:
        granularity: Of the components.
        scores: float32 on the CPU, in component order, under the names that a mask file uses:
            `neurons.<layer>` (neurons,), `heads.<layer>` (heads,), or `weights.<parameter>` in the parameter's shape.
        samples: How many the mean was taken over.
    """

    granularity: Granularity
    scores: Mapping[str, Tensor]
    samples: int

    def __len__(self) -> int:
        return sum(score.numel() for score in self.scores.values())
