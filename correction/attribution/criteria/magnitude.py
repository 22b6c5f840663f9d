"""Magnitude: |w|; for a neuron or head, the norm of the weights that it writes with. It reads no data."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from correction import distributed
from correction.attribution.criteria.criterion import Attached, Criterion, Zeros
from correction.attribution.criteria.criterion_settings import Settings
from correction.attribution.criteria.scored_modules import ScoredModule, find_scored_modules
from correction.models import LoadedModel


class Magnitude:
    """The magnitudes of one matrix, which do not depend on the data."""

    def __init__(self, place: ScoredModule) -> None:
        self.place = place
        self.sum = torch.zeros(())

    def mean(self, samples: int) -> Tensor:
        """float32, of the score's shape."""
        weight = distributed.full_tensor(self.place.module.weight.detach()).float()
        if self.place.width == 0:
            return weight.abs()
        return torch.linalg.vector_norm(weight.unflatten(-1, (-1, self.place.width)), dim=(0, -1))


@contextmanager
def attach(loaded: LoadedModel, settings: Settings, zeros: Zeros) -> Iterator[Attached]:
    """Nothing is attached, and nothing read."""
    yield Attached(
        {place.name: Magnitude(place) for place in find_scored_modules(loaded, settings)}, lambda seeded: None
    )


MAGNITUDE = Criterion("magnitude", attach, reads=False)
