"""Reading activation × gradient and weight × gradient in passing, during one backward pass.

A backward hook sits at the input of a linear module. It leaves values and gradients as they are, adds what it sees to a
float32 score, and keeps nothing: no parameter gets a gradient. Its `anchor` starts the graph, so that nothing before
the first hook is differentiated.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from correction import distributed
from correction.attribution.criteria.criterion import Attached, Zeros
from correction.attribution.criteria.criterion_settings import Settings, Sign
from correction.attribution.criteria.output_seeds import NegativeResponses, SeededBatch
from correction.attribution.criteria.scored_modules import ScoredModule, find_scored_modules
from correction.data.tokenisation import Batch
from correction.instances import replaced_attribute
from correction.models import LoadedModel


class ActivationScore:
    """Σ over samples of R, or |R|, with R = Σ over positions and the component's channels of (a − ā) · ∂.

    ā is 0, or where a batch has other responses to hold against, the mean over the tokens of these; there, a position
    that is not of the response counts for nothing.

    `sum`: float32 (components,), each of `width` channels: 1 for neurons, `head_dim` for heads; for the sign `lower`
    (2, components): Σ R and Σ R².
    """

    def __init__(self, sum: Tensor, width: int, sign: Sign) -> None:
        self.sum, self.width, self.sign = sum, width, sign
        self.rows = 0
        self.held: tuple[Tensor, Tensor] | None = None

    def hold(self, activation: Tensor, where: Tensor, responses: Tensor) -> None:
        """What the next batch is held against: activations of other responses, averaged where these are read.

        Args:
            activation: (rows, positions, channels), or (rows · positions, channels).
            where: bool (rows, positions): the tokens of the other responses.
            responses: bool (rows, positions of the next batch): the tokens of its own.
        """
        weights = where.unsqueeze(-1).to(activation.dtype)
        mean = (activation.view(*where.shape, -1) * weights).sum(1) / weights.sum(1).clamp_min(1)
        self.held = mean, responses

    def add(self, activation: Tensor, gradient: Tensor) -> None:
        """Add a batch: both (rows, positions, channels), or (rows · positions, channels) as OPT's MLP has it."""
        activation, gradient = (each.view(self.rows, -1, each.shape[-1]) for each in (activation, gradient))
        if self.held is not None:
            mean, responses = self.held
            self.held = None  # of this batch alone
            activation = (activation - mean[:, None]) * responses.unsqueeze(-1).to(activation.dtype)
        relevance = (activation * gradient).sum(1, dtype=torch.float32)
        if self.width > 1:
            relevance = relevance.unflatten(-1, (-1, self.width)).sum(-1)
        if self.sign == "lower":
            self.sum += torch.stack([relevance.sum(0), relevance.square().sum(0)]).to(self.sum.device)
            return
        self.sum += (relevance.abs() if self.sign == "absolute" else relevance).sum(0).to(self.sum.device)

    def mean(self, samples: int) -> Tensor:
        """The mean over samples, or its lower bound; `sum` is used up."""
        if self.sign == "lower":
            return lower_bound(self.sum.div_(samples), samples)
        return self.sum.div_(samples)


class WeightScore:
    """Σ over samples of R, or |R|, with R = w · ∂ (SparC³, Eq. 8): float32 (out, in), like the weight.

    The weight is the same for every sample and is multiplied once, at the end: what adds up is ∂, or |∂|; for the sign
    `lower` (2, out, in): ∂ and ∂².
    """

    def __init__(self, sum: Tensor, module: nn.Linear, sign: Sign) -> None:
        self.sum, self.sign, self.weight = sum, sign, module.weight
        self.rows = 0

    def add(self, x: Tensor, gradient: Tensor) -> None:
        """Add a batch: the input (…, in) and the gradient of the output (…, out), rows first."""
        x, gradient = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
        if self.sign == "absolute":
            for one_x, one_gradient in zip(x.chunk(self.rows), gradient.chunk(self.rows), strict=True):
                self.sum += (one_gradient.mT @ one_x).abs().to(self.sum.device)
        elif self.sign == "lower":
            for one_x, one_gradient in zip(x.chunk(self.rows), gradient.chunk(self.rows), strict=True):
                of_sample = (one_gradient.mT @ one_x).float().to(self.sum.device)
                self.sum[0] += of_sample
                self.sum[1].addcmul_(of_sample, of_sample)
        elif x.dtype == torch.float32 and x.device == self.sum.device:
            self.sum.addmm_(gradient.mT, x)
        else:
            self.sum += (gradient.mT @ x).to(self.sum.device)

    def mean(self, samples: int) -> Tensor:
        """The mean over samples, times the weight; `sum` is used up."""
        weight = distributed.full_tensor(self.weight.detach()).to(self.sum.device)
        if self.sign == "lower":
            self.sum[0].mul_(weight)
            self.sum[1].mul_(weight.float().square())
            return lower_bound(self.sum.div_(samples), samples)
        return self.sum.mul_(weight.abs() if self.sign == "absolute" else weight).div_(samples)


def lower_bound(moments: Tensor, samples: int) -> Tensor:
    """Mean less its standard error, given the means of R and of R² over samples: (2, …) → (…)."""
    mean, square = moments
    return mean - (square - mean.square()).clamp_min_(0).div_(max(1, samples - 1)).sqrt_()


class _ActivationHook(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, score: "BackwardScore") -> Tensor:
        ctx.score = score
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        ctx.score.add(ctx.saved_tensors[0], gradients[0])
        return (gradients[0] if ctx.needs_input_grad[0] else None), None, None


class _LinearHook(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, anchor: Tensor, score: "BackwardScore"
    ) -> Tensor:
        ctx.score = score
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        x, weight = ctx.saved_tensors
        ctx.score.add(x, gradients[0])
        return (gradients[0] @ weight if ctx.needs_input_grad[0] else None), None, None, None, None


class BackwardScore(Protocol):
    """A score that is updated from a module in every backward pass."""

    def add(self, x: Tensor, gradient: Tensor) -> None:
        """Add a batch: what enters the module, and the gradient of that, or of the output where weights are scored."""
        ...


Added = TypeVar("Added", bound=BackwardScore)


@contextmanager
def backward_hook(place: ScoredModule, score: Added) -> Iterator[Added]:
    """Update a score from the inputs or the weights of a linear module in every backward pass inside the context."""
    module = place.module
    anchor = torch.zeros((), device=module.weight.device, requires_grad=True)
    forward = module.forward

    def by_inputs(x: Tensor) -> Tensor:
        return forward(_ActivationHook.apply(x, anchor, score))

    def by_weights(x: Tensor) -> Tensor:
        output: Tensor = _LinearHook.apply(x, module.weight, module.bias, anchor, score)
        return output

    with replaced_attribute(module, "forward", by_inputs if place.width else by_weights):
        yield score


def zero_score(place: ScoredModule, sign: Sign, zeros: Zeros) -> ActivationScore | WeightScore:
    """A score of zeros for a module."""
    total = zeros(place.name, (2, *place.shape) if sign == "lower" else place.shape, place.module.weight.device)
    if place.width:
        return ActivationScore(total, place.width, sign)
    return WeightScore(total, place.module, sign)


@contextmanager
def attach_backward_hooks(
    loaded: LoadedModel,
    settings: Settings,
    sign: Sign,
    zeros: Zeros,
    output: Callable[[SeededBatch], Tensor],
) -> Iterator[Attached]:
    """A hook at everything that the settings ask to be scored; `output` of a batch is what is propagated back."""
    with ExitStack() as stack:
        places = list(find_scored_modules(loaded, settings))
        scores = {
            place.name: stack.enter_context(backward_hook(place, zero_score(place, sign, zeros))) for place in places
        }

        def see(seeded: SeededBatch) -> None:
            for score in scores.values():
                score.rows = len(seeded.batch.lengths)
            if settings.baseline == "spared" and seeded.negatives is not None:
                _read_negatives(loaded, places, scores, seeded.batch, seeded.negatives)
            output(seeded).backward()

        yield Attached(scores, see)


def _read_negatives(
    loaded: LoadedModel,
    places: Sequence[ScoredModule],
    scores: Mapping[str, ActivationScore | WeightScore],
    batch: Batch,
    negatives: NegativeResponses,
) -> None:
    """Let the model read the other responses, and every score keep what entered its module."""
    where, responses = negatives.responses(negatives.batch), negatives.responses(batch)
    with ExitStack() as stack, torch.no_grad():
        for place in places:
            if isinstance(score := scores[place.name], ActivationScore):
                hook = partial(_hold, score, where, responses)
                stack.callback(place.module.register_forward_pre_hook(hook).remove)
        loaded.decoder(input_ids=negatives.batch.input_ids, use_cache=False)


def _hold(score: ActivationScore, where: Tensor, responses: Tensor, module: nn.Module, given: tuple[Tensor]) -> None:
    score.hold(given[0], where, responses)
