import importlib.metadata
import importlib.util

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers.activations import ACT2FN

from correction.attribution.criteria.lrp_rules import identity_rule, normalise, uniform_rule

NONLINEAR = {"silu": ACT2FN["silu"], "nn.SiLU": nn.SiLU(), "gelu": ACT2FN["gelu"], "relu": F.relu, "tanh": torch.tanh}


def lxt_rules():
    """The rules of the AttnLRP authors, without their package, which does not import on transformers 5."""
    try:
        distribution = importlib.metadata.distribution("lxt")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("lxt is not installed")
    spec = importlib.util.spec_from_file_location("lxt_rules", distribution.locate_file("lxt/efficient/rules.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gradient(function, x, seed):
    x = x.clone().requires_grad_()
    value = function(x)
    value.backward(seed)
    return value.detach(), x.grad


@pytest.mark.parametrize("name", NONLINEAR)
def test_identity_rule_hands_relevance_on_whole(name):
    function = NONLINEAR[name]
    generator = torch.Generator().manual_seed(1)
    x, seed = torch.randn(2, 400, generator=generator, dtype=torch.float64)
    value, slope = gradient(lambda t: identity_rule(function, t), x, seed)
    assert torch.equal(value, function(x))
    torch.testing.assert_close(x * slope, value * seed, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NONLINEAR)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_identity_rule_is_finite_at_zero_and_all_round_it(name, dtype):
    function = NONLINEAR[name]
    x = torch.tensor([0.0, -0.0, -1e-10, 1e-10, -6e-8, 6e-8, 1e-5, -1e-5, 30.0, -30.0], dtype=dtype)
    _, slope = gradient(lambda t: identity_rule(function, t), x, torch.ones_like(x))
    limit = {"relu": 0.0, "tanh": 1.0}.get(name, 0.5)
    assert torch.isfinite(slope).all()
    assert slope[:2].tolist() == [limit, limit]
    assert slope.abs().max() <= 1.01


def test_identity_rule_gives_zero_where_there_is_no_limit():
    x = torch.tensor([0.0, 2.0])
    _, slope = gradient(lambda t: identity_rule(torch.cos, t), x, torch.ones(2))
    assert slope[0] == 0
    torch.testing.assert_close(slope[1], torch.cos(x[1]) / 2)


def test_uniform_rule_shares_a_product_equally():
    a = torch.tensor([2.0, -3.0], requires_grad=True)
    b = torch.tensor([5.0, 7.0], requires_grad=True)
    product = uniform_rule(a * b, 2)
    product.sum().backward()
    assert torch.equal(a * a.grad, product / 2)
    assert torch.equal(b * b.grad, product / 2)


def test_rms_norm_has_a_constant_denominator_and_the_modules_own_values():
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    norm = LlamaRMSNorm(16)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(3, 16, generator=torch.Generator().manual_seed(2)).to(dtype)
        value, slope = gradient(lambda t: normalise(norm.to(t.dtype), t), x, torch.ones(3, 16, dtype=dtype))
        assert torch.equal(value, norm(x))
        tolerance = 1e-6 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(x * slope, value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NONLINEAR)
def test_rules_agree_with_those_of_the_authors_library(name):
    theirs = lxt_rules()
    function = NONLINEAR[name]
    x, seed = torch.randn(2, 500, generator=torch.Generator().manual_seed(3))
    pairs = [
        (lambda t: identity_rule(function, t), lambda t: theirs.identity_rule_implicit(function, t)),
        (lambda t: uniform_rule(t * t, 4), lambda t: theirs.divide_gradient(t * t, 4)),
    ]
    for mine, other in pairs:
        for ours, reference in zip(gradient(mine, x, seed), gradient(other, x, seed), strict=True):
            torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-6)
