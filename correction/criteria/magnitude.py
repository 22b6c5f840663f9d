"""Magnitude: |w|; for a neuron or head, the norm of the weights that it writes with. It reads no data."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from correction import distributed
from correction.criteria.criterion import Attached, Criterion, Zeros
from correction.criteria.scored import Scored, scored
from correction.criteria.settings import Settings
from correction.models import LoadedModel


class Magnitude:
    """The magnitudes of one matrix, whatever was seen."""

    def __init__(self, place: Scored) -> None:
        self.place = place
        self.sum = torch.zeros(())

    def mean(self, samples: int) -> Tensor:
        """float32, of the score's shape."""
        weight = distributed.whole(self.place.module.weight.detach()).float()
        if self.place.width == 0:
            return weight.abs()
        return torch.linalg.vector_norm(weight.unflatten(-1, (-1, self.place.width)), dim=(0, -1))


@contextmanager
def attach(loaded: LoadedModel, settings: Settings, zeros: Zeros) -> Iterator[Attached]:
    """Nothing is attached, and nothing read."""
    yield Attached({place.name: Magnitude(place) for place in scored(loaded, settings)}, lambda seeded: None)


MAGNITUDE = Criterion("magnitude", attach, reads=False)
