"""Activation: how loudly a neuron or head speaks.

Mean over samples and tokens of |a|; for a head, of the norm of its slice.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from correction.attribution.criteria.criterion import Attached, Criterion, Zeros
from correction.attribution.criteria.criterion_settings import Settings
from correction.attribution.criteria.forward_hooks import ForwardScore, attach_forward_hooks
from correction.attribution.criteria.scored_modules import ScoredModule
from correction.models import LoadedModel


class MeanMagnitude:
    """Σ over samples of the mean over tokens of ‖a‖₂, over the component's channels: float32 (components,)."""

    def __init__(self, sum: Tensor, width: int) -> None:
        self.sum, self.width = sum, width

    def read(self, x: Tensor, weights: Tensor) -> None:
        """Add a batch (see `forward_hooks.ForwardScore`)."""
        size = torch.linalg.vector_norm(x.unflatten(-1, (-1, self.width)), dim=-1, dtype=torch.float32)
        self.sum += torch.einsum("rpc,rp->c", size, weights).to(self.sum.device)

    def mean(self, samples: int) -> Tensor:
        """The mean over samples; `sum` is used up."""
        return self.sum.div_(samples)


@contextmanager
def attach(loaded: LoadedModel, settings: Settings, zeros: Zeros) -> Iterator[Attached]:
    """Read what enters `down_proj` and `o_proj`."""

    def make(place: ScoredModule) -> tuple[MeanMagnitude, ForwardScore]:
        score = MeanMagnitude(zeros(place.name, place.shape, place.module.weight.device), place.width)
        return score, score.read

    with attach_forward_hooks(loaded, settings, make) as attached:
        yield attached


ACTIVATION = Criterion("activation", attach, frozenset({"neuron", "head"}))
