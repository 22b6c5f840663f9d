"""The rules of AttnLRP (Achtibat et al., ICML 2024) as changes to the backward pass.

Relevance is the value times its modified gradient, R(x) = x · ∂, at every place of the network (the Gradient × Input
form of the rules): a rule is then a function that leaves its value alone and changes its gradient. Linear layers need
no rule: there the gradient already distributes relevance by the contributions w·x.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Elementwise = Callable[[Tensor], Tensor]


class _IdentityRule(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Elementwise, ratio: Elementwise) -> Tensor:
        ctx.ratio = ratio
        ctx.save_for_backward(x)
        return function(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return ctx.ratio(x).mul_(gradients[0]), None, None


class _UniformRule(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, parts: int) -> Tensor:
        ctx.parts = parts
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] / ctx.parts, None


def identity_rule(function: Elementwise, x: Tensor) -> Tensor:
    """`function(x)`, an elementwise nonlinearity, through which relevance passes unchanged (Eq. 9).

    R(x) = R(f(x)) asks for the gradient f(x)/x. Where x is 0 it is the limit, f'(0), if f(0) = 0; else there is none,
    and the gradient is 0. No stabiliser: adding ε to x puts a pole at −ε, and an ε that vanishes in half precision
    divides 0 by 0.
    """
    smooth = isinstance(function, nn.SiLU) or type(function).__name__ == "SiLUActivation"
    ratio = torch.sigmoid if smooth else _ratio_of(function)  # SiLU(x)/x is the sigmoid, at 0 too
    return _IdentityRule.apply(x, function, ratio)


def uniform_rule(x: Tensor, parts: int = 2) -> Tensor:
    """`x`, a product of `parts` factors, whose relevance its factors share equally (Eq. 7).

    By its gradient each factor would get all of it: R(a) = a · ∂(ab)/∂a = ab.
    """
    return _UniformRule.apply(x, parts)


def normalise(norm: Any, x: Tensor) -> Tensor:
    """A LayerNorm, or an RMSNorm of transformers, whose denominator is a constant (the identity rule, Eq. 9).

    The mean that a LayerNorm takes away is linear in `x` and keeps its gradient. An RMSNorm (`weight`,
    `variance_epsilon`) has the same values as the module's own forward, bit for bit: normalised in float32, then scaled
    in the type of `x`.
    """
    wide = x.to(torch.float32)
    if isinstance(norm, nn.LayerNorm):
        centred = wide - wide.mean(-1, keepdim=True)
        with torch.no_grad():
            scale = torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + norm.eps)
        scaled = centred * scale
        if norm.weight is not None:
            scaled = scaled * norm.weight.float()
        return (scaled if norm.bias is None else scaled + norm.bias.float()).to(x.dtype)
    with torch.no_grad():
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
    return norm.weight * (wide * scale).to(x.dtype)


def _ratio_of(function: Elementwise) -> Elementwise:
    def ratio(x: Tensor) -> Tensor:
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        zero = wide == 0
        quotient = function(wide) / torch.where(zero, 1.0, wide)
        return torch.where(zero, _slope_at_zero(function, wide), quotient).to(x.dtype)

    return ratio


def _slope_at_zero(function: Elementwise, like: Tensor) -> Tensor:
    with torch.enable_grad():
        zero = torch.zeros((), dtype=like.dtype, device=like.device, requires_grad=True)
        value = function(zero)
        (slope,) = torch.autograd.grad(value, zero)
    return torch.where(value.detach() == 0, slope.nan_to_num(), 0.0)
