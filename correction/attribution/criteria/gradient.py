"""Gradient × input, with no rule at all: what LRP is measured against.

Neurons and heads: activation × gradient (Shrikumar et al. 2016; it is attribution patching, Nanda 2023, towards zero).
Weights: weight × gradient.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from correction.attribution.criteria.backward_hooks import attach_backward_hooks
from correction.attribution.criteria.criterion import Attached, Criterion, Zeros
from correction.attribution.criteria.criterion_settings import Settings
from correction.instances import frozen_parameters
from correction.models import LoadedModel


@contextmanager
def attach(loaded: LoadedModel, settings: Settings, zeros: Zeros) -> Iterator[Attached]:
    """Plain backpropagation from the seeded logits."""
    with (
        frozen_parameters(loaded.model),
        attach_backward_hooks(loaded, settings, settings.sign, zeros, lambda seeded: seeded.output(loaded)) as attached,
    ):
        yield attached


GRADIENT = Criterion("gradient", attach, uses=frozenset({"seed", "sign", "baseline"}))
