"""Cost: what cutting each component does to a text, to second order.

Near a minimum of the loss, taking a component away costs in proportion to the square of its first-order effect
(LeCun et al. 1990; Hassibi & Stork 1993): the mean over positions of (a · ∂log p/∂a)², where log p is the
log-probability of the text. Squared before summing, so that what a component does to one token is not made good by what
it does to another. For a head, a · ∂ is summed over its slice first; for a weight this is the diagonal of the empirical
Fisher information times w².

A few neurons of a real model carry activations so large that any score that is not divided by this ranks them first.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from correction import distributed
from correction.attribution.criteria.backward_hooks import backward_hook
from correction.attribution.criteria.criterion import Attached, Criterion, Zeros
from correction.attribution.criteria.criterion_settings import Settings
from correction.attribution.criteria.output_seeds import SeededBatch
from correction.attribution.criteria.scored_modules import find_scored_modules
from correction.instances import frozen_parameters
from correction.models import LoadedModel


class ActivationCost:
    """Σ over positions of (a · ∂)², float32 (components,), each of `width` channels."""

    def __init__(self, sum: Tensor, width: int) -> None:
        self.sum, self.width = sum, width

    def add(self, activation: Tensor, gradient: Tensor) -> None:
        """Add a batch: both (…, channels)."""
        effect = (activation * gradient).float().view(-1, activation.shape[-1])
        if self.width > 1:
            effect = effect.unflatten(-1, (-1, self.width)).sum(-1)
        self.sum += effect.square().sum(0).to(self.sum.device)

    def mean(self, samples: int) -> Tensor:
        """The mean over samples; `sum` is used up."""
        return self.sum.div_(samples)


class WeightCost:
    """w² Σ over positions of (x · ∂y)², float32 (out, in): of one position, the gradient of w_ij is ∂y_i x_j."""

    def __init__(self, sum: Tensor, module: nn.Linear) -> None:
        self.sum, self.weight = sum, module.weight

    def add(self, x: Tensor, gradient: Tensor) -> None:
        """Add a batch: the input (…, in) and the gradient of the output (…, out)."""
        x, gradient = (each.reshape(-1, each.shape[-1]).float().square() for each in (x, gradient))
        if x.device == self.sum.device:
            self.sum.addmm_(gradient.mT, x)
        else:
            self.sum += (gradient.mT @ x).to(self.sum.device)

    def mean(self, samples: int) -> Tensor:
        """The mean over samples; `sum` is used up."""
        weight = distributed.full_tensor(self.weight.detach()).to(self.sum.device).float()
        return self.sum.mul_(weight.square()).div_(samples)


@contextmanager
def attach(loaded: LoadedModel, settings: Settings, zeros: Zeros) -> Iterator[Attached]:
    """Backpropagation from the log-probability of each text."""
    with frozen_parameters(loaded.model), ExitStack() as stack:
        scores: dict[str, ActivationCost | WeightCost] = {}
        for place in find_scored_modules(loaded, settings):
            total = zeros(place.name, place.shape, place.module.weight.device)
            score = ActivationCost(total, place.width) if place.width else WeightCost(total, place.module)
            scores[place.name] = stack.enter_context(backward_hook(place, score))

        def see(seeded: SeededBatch) -> None:
            seeded.loss(loaded).backward()

        yield Attached(scores, see)


def token_weights(tokens: int) -> tuple[float, ...]:
    """Of the tokens of one text, so that its Σ over positions of squares is their mean, and texts count alike."""
    return (max(1, tokens) ** -0.5,) * tokens


COST = Criterion("cost", attach, seed="response", weights=token_weights)
"""Not one of the criteria by which a behaviour is found: it is what their gain is divided by."""
