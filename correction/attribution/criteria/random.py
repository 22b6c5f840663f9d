"""Random scores: the floor that every criterion is measured against."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from correction.attribution.criteria.criterion import Attached, Criterion, Zeros
from correction.attribution.criteria.criterion_settings import Settings
from correction.attribution.criteria.scored_modules import ScoredModule, find_scored_modules
from correction.models import LoadedModel


class Drawn:
    """Random scores that do not depend on the data."""

    def __init__(self, place: ScoredModule, generator: torch.Generator) -> None:
        self.place, self.generator = place, generator
        self.sum = torch.zeros(())

    def mean(self, samples: int) -> Tensor:
        """Uniform in [0, 1): float32, of the score's shape."""
        return torch.rand(self.place.shape, generator=self.generator)


@contextmanager
def attach(loaded: LoadedModel, settings: Settings, zeros: Zeros) -> Iterator[Attached]:
    """Nothing is attached, and nothing read; `settings.random_seed` draws the scores, in component order."""
    generator = torch.Generator().manual_seed(settings.random_seed)
    scores = {place.name: Drawn(place, generator) for place in find_scored_modules(loaded, settings)}
    yield Attached(scores, lambda seeded: None)


RANDOM = Criterion("random", attach, uses=frozenset({"random_seed"}), reads=False)
