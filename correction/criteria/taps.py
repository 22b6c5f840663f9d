"""Reading activation × gradient and weight × gradient in passing, during one backward pass.

A tap sits at the input of a linear module. It leaves values and gradients as they are, adds what it sees to a float32
score, and keeps nothing: no parameter gets a gradient. Its `anchor` starts the graph, so that nothing before the
first tap is differentiated.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from correction.criteria.settings import Sign
from correction.instances import replaced


class NeuronScore:
    """Σ over samples of R, or |R|, with R = Σ over positions of a · ∂: float32 (neurons,)."""

    def __init__(self, module: nn.Linear, sign: Sign) -> None:
        self.sign = sign
        self.total = torch.zeros(module.in_features, dtype=torch.float32, device=module.weight.device)

    def add(self, activation: Tensor, gradient: Tensor) -> None:
        """Add a batch; both of shape (rows, positions, neurons)."""
        relevance = (activation * gradient).sum(1, dtype=torch.float32)
        self.total += (relevance.abs() if self.sign == "absolute" else relevance).sum(0)


class WeightScore:
    """Σ over samples of R, or |R|, with R = w · ∂ (SparC³, Eq. 8): float32 (out, in), like the weight.

    The weight is the same for every sample and is multiplied once, at the end: what adds up is ∂, or |∂|.
    """

    def __init__(self, module: nn.Linear, sign: Sign) -> None:
        self.sign = sign
        self.weight = module.weight
        self.gradients = torch.zeros_like(module.weight, dtype=torch.float32)

    def add(self, x: Tensor, gradient: Tensor) -> None:
        """Add a batch: the input (rows, positions, in) and the gradient of the output (rows, positions, out)."""
        if self.sign == "absolute":
            for one_x, one_gradient in zip(x, gradient, strict=True):
                self.gradients += (one_gradient.mT @ one_x).abs()
        elif x.dtype == torch.float32:
            self.gradients.addmm_(gradient.flatten(0, 1).mT, x.flatten(0, 1))
        else:
            self.gradients += gradient.flatten(0, 1).mT @ x.flatten(0, 1)

    @property
    def total(self) -> Tensor:
        """The score; the sum of gradients is used up."""
        weight = self.weight.detach()
        return self.gradients.mul_(weight.abs() if self.sign == "absolute" else weight)


class _ActivationTap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, score: NeuronScore) -> Tensor:
        ctx.score = score
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        ctx.score.add(ctx.saved_tensors[0], gradients[0])
        return (gradients[0] if ctx.needs_input_grad[0] else None), None, None


class _LinearTap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, anchor: Tensor, score: WeightScore) -> Tensor:
        ctx.score = score
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        x, weight = ctx.saved_tensors
        ctx.score.add(x, gradients[0])
        return (gradients[0] @ weight if ctx.needs_input_grad[0] else None), None, None, None, None


@contextmanager
def neuron_tap(module: nn.Linear, sign: Sign) -> Iterator[NeuronScore]:
    """Score the inputs of a linear module in every backward pass until the context ends."""
    score = NeuronScore(module, sign)
    anchor = torch.zeros((), device=module.weight.device, requires_grad=True)
    forward = module.forward
    with replaced(module, "forward", lambda x: forward(_ActivationTap.apply(x, anchor, score))):
        yield score


@contextmanager
def weight_tap(module: nn.Linear, sign: Sign) -> Iterator[WeightScore]:
    """Score the weights of a linear module in every backward pass until the context ends."""
    score = WeightScore(module, sign)
    anchor = torch.zeros((), device=module.weight.device, requires_grad=True)

    def forward(x: Tensor) -> Tensor:
        return _LinearTap.apply(x, module.weight, module.bias, anchor, score)

    with replaced(module, "forward", forward):
        yield score
