"""Gradient × input, with no rule at all: what LRP is measured against.

Neurons and heads: activation × gradient (Shrikumar et al. 2016; it is attribution patching, Nanda 2023, towards zero).
Weights: weight × gradient.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from correction.criteria.criterion import Attached, Criterion, Zeros
from correction.criteria.settings import Settings
from correction.criteria.taps import taps
from correction.instances import frozen
from correction.models import LoadedModel


@contextmanager
def attach(loaded: LoadedModel, settings: Settings, zeros: Zeros) -> Iterator[Attached]:
    """Plain backpropagation from the seeded logits."""
    with (
        frozen(loaded.model),
        taps(loaded, settings, settings.sign, zeros, lambda seeded: seeded.output(loaded)) as attached,
    ):
        yield attached


GRADIENT = Criterion("gradient", attach, uses=frozenset({"seed", "sign", "baseline"}))
