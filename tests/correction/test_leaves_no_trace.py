"""Whatever changes a model puts everything back, after an exception too, and never touches another model."""

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AttentionInterface, LlamaForCausalLM

import masks
from correction.ablation import ablated
from correction.attribution.attribution import attribute
from correction.attribution.criteria import CRITERIA, Settings
from correction.attribution.criteria.backward_hooks import backward_hook, zero_score
from correction.attribution.criteria.cost import COST
from correction.attribution.criteria.criterion import on_device
from correction.attribution.criteria.lrp import ATTENTION, attnlrp
from correction.attribution.criteria.scored_modules import ScoredModule
from correction.data.references import ReferenceSet
from correction.models import LoadedModel, wrap
from tests.correction.conftest import tiny_config, tiny_tokenizer

PROMPTS = ReferenceSet(("who are you", "tell me about the sea", "why"), "p", "prompt")


def trace(model: nn.Module):
    """Everything that a change could leave behind, by identity where it is an object."""
    modules = {}
    for name, module in model.named_modules():
        ids = {key: id(value) for key, value in vars(module).items() if not key.startswith("_") and key != "training"}
        hooks = {key: len(value) for key, value in vars(module).items() if key.endswith("_hooks")}
        modules[name] = (ids, hooks, module.training, type(module).forward)
    parameters = {
        name: (id(p), p.requires_grad, p.grad is None, p.dtype, p.detach().clone().numpy().tobytes())
        for name, p in model.named_parameters()
    }
    return modules, parameters, model.config._attn_implementation, model.config.to_dict(), id(model.config)


@pytest.fixture
def pair(tiny_folder):
    """Two models that share one config object; the second is only looked at."""
    torch.manual_seed(3)
    config = tiny_config()
    return [wrap(LlamaForCausalLM(config), tiny_tokenizer(), tiny_folder) for _ in range(2)]


def test_attribution_leaves_the_model_as_it_was(pair):
    mine, other = pair
    mine.model.model.layers[0].train()
    mine.model.model.layers[1].mlp.up_proj.weight.requires_grad_(False)
    before = trace(mine.model), trace(other.model)
    for criterion in (*CRITERIA.values(), COST):
        for granularity in criterion.granularities:
            settings = Settings(granularity=granularity, seed="response", response_tokens=3)
            attribute(mine, PROMPTS, settings, criterion=criterion, checkpointing=granularity == "head")
            assert (trace(mine.model), trace(other.model)) == before, (criterion.name, granularity)


def test_an_exception_in_the_middle_leaves_the_model_as_it_was(pair):
    mine, _ = pair
    before = trace(mine.model)
    block = mine.blocks[0]
    with pytest.raises(RuntimeError, match="stop"), ExitStack() as stack:
        stack.enter_context(attnlrp(mine))
        for place in (ScoredModule("neurons.0", block.down_proj, 1), ScoredModule("weights.o", block.o_proj, 0)):
            stack.enter_context(backward_hook(place, zero_score(place, "signed", on_device))).rows = 1
        mine.model(torch.tensor([[1, 2, 3]])).logits.sum().backward()
        raise RuntimeError("stop")
    assert trace(mine.model) == before


def test_a_forward_that_was_replaced_before_is_put_back(pair):
    mine, _ = pair
    norm = mine.model.model.norm
    before = norm.forward = lambda x: x
    with attnlrp(mine):
        assert norm.forward is not before
    assert norm.forward is before


def test_other_models_keep_their_gradients_meanwhile(pair):
    mine, other = pair
    ids = torch.tensor([[1, 7, 12, 30]])

    def gradients():
        loss = other.model(ids).logits.max()
        return [g.clone() for g in torch.autograd.grad(loss, list(other.model.parameters()))]

    before = gradients()
    with attnlrp(mine):
        assert mine.model.model.layers[0].self_attn.config._attn_implementation == ATTENTION
        assert other.model.config._attn_implementation == "sdpa"
        during = gradients()
    assert all(torch.equal(a, b) for a, b in zip(before, during, strict=True))


def test_only_a_name_in_the_attention_registry_is_process_wide():
    assert ATTENTION in AttentionInterface._global_mapping


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_any_attention_implementation_gives_the_same_and_comes_back(tiny_folder, implementation):
    loaded = wrap(
        LlamaForCausalLM.from_pretrained(tiny_folder, attn_implementation=implementation), tiny_tokenizer(), tiny_folder
    )
    relevance = attribute(loaded, PROMPTS)
    assert loaded.model.config._attn_implementation == implementation
    plain = attribute(wrap(LlamaForCausalLM.from_pretrained(tiny_folder), tiny_tokenizer(), tiny_folder), PROMPTS)
    assert all(torch.equal(relevance.scores[name], plain.scores[name]) for name in plain.scores)


def test_attribution_works_where_gradients_are_off(tiny: LoadedModel):
    expected = attribute(tiny, PROMPTS)
    with torch.no_grad():
        relevance = attribute(tiny, PROMPTS)
    assert all(torch.equal(relevance.scores[name], expected.scores[name]) for name in expected.scores)


def test_ablation_leaves_the_model_as_it_was(tiny: LoadedModel):
    weights = {"model.layers.0.mlp.up_proj.weight": np.arange(40), "lm_head.weight": [3]}
    mask = masks.for_model(tiny.path, "m", neurons={0: [1, 2]}, heads={1: [3]}, weights=weights)
    before = trace(tiny.model)
    with pytest.raises(RuntimeError, match="stop"), ablated(tiny, mask):
        assert trace(tiny.model) != before
        raise RuntimeError("stop")
    assert trace(tiny.model) == before
