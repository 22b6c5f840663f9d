"""SNIP (Lee et al. 2019) as Wei et al. 2024 use it: the mean over samples of |w · ∂L/∂w|, L the loss of the response.

For neurons and heads the same of the activation: |Σ a · ∂L/∂a|, over positions and channels.
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
    """Backpropagation from the mean cross entropy of each response."""
    with (
        frozen_parameters(loaded.model),
        attach_backward_hooks(loaded, settings, "absolute", zeros, lambda seeded: seeded.loss(loaded)) as attached,
    ):
        yield attached


SNIP = Criterion("snip", attach, seed="response")
