"""Wanda (Sun et al. 2024): |W_ij| · ‖X_j‖₂, weight times norm of its input; for a neuron, summed over what it writes.

The squares are averaged over the tokens of a sample, then over samples: for samples of one length this is Wanda's norm
but for a constant, and reference sets of different lengths can be contrasted.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from correction import distributed
from correction.attribution.criteria.criterion import Attached, Criterion, Zeros
from correction.attribution.criteria.criterion_settings import Settings
from correction.attribution.criteria.forward_hooks import ForwardScore, attach_forward_hooks
from correction.attribution.criteria.scored_modules import ScoredModule
from correction.models import LoadedModel


class InputNorm:
    """Σ over samples of the mean over tokens of x_j²: float32 (in,); the weights come in at the end."""

    def __init__(self, sum: Tensor, module: nn.Linear, neurons: bool) -> None:
        self.sum, self.weight, self.neurons = sum, module.weight, neurons

    def read(self, x: Tensor, weights: Tensor) -> None:
        """Add a batch (see `forward_hooks.ForwardScore`)."""
        self.sum += torch.einsum("rpc,rp->c", x.float().square(), weights).to(self.sum.device)

    def mean(self, samples: int) -> Tensor:
        """Scores of weights (out, in), or of neurons (in,)."""
        norm = (self.sum / samples).sqrt()
        magnitude = distributed.full_tensor(self.weight.detach()).to(norm.device).float().abs()
        return norm * magnitude.sum(0) if self.neurons else magnitude.mul_(norm)


@contextmanager
def attach(loaded: LoadedModel, settings: Settings, zeros: Zeros) -> Iterator[Attached]:
    """Read what enters each scored matrix."""

    def make(place: ScoredModule) -> tuple[InputNorm, ForwardScore]:
        module = place.module
        score = InputNorm(zeros(place.name, (module.in_features,), module.weight.device), module, place.width == 1)
        return score, score.read

    with attach_forward_hooks(loaded, settings, make) as attached:
        yield attached


WANDA = Criterion("wanda", attach, frozenset({"neuron", "weight"}))
