"""The cost of a cut against a slow derivation in float64: each position's log-probability by itself, by hand."""

import pytest
import torch

from correction.attribution.attribution import attribute
from correction.attribution.criteria import Settings
from correction.attribution.criteria.cost import COST, token_weights
from correction.data.references import ReferenceSet
from correction.models import wrap
from tests.correction.attribution.criteria.test_criteria import HEAD_DIM, HEADS, close, inputs_of, mean

TEXTS = ReferenceSet(("the cat sees a dog", "who likes", "tell me about the old red ship under the tree"), "t", "text")
NAMES = {"neuron": "neurons.{}", "head": "heads.{}", "weight": "weights.model.layers.{}.mlp.down_proj.weight"}


def log_probability(logits, ids):
    """Of a text from its second token on."""
    return logits[:-1].log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None]).sum()


def of_one(loaded, granularity, ids):
    """Layer → the cost of each component to one text: the mean over positions of (a · ∂log p/∂a)², float64."""
    costs = {}
    for block in loaded.blocks:
        key = "heads" if granularity == "head" else "neurons"
        seen, logits = inputs_of(loaded, ids)
        if granularity != "weight":
            a = seen[f"{key}.{block.index}"]
            (gradient,) = torch.autograd.grad(log_probability(logits, ids), a)
            effect = (a * gradient)[0, :-1].detach()
            if granularity == "head":
                effect = effect.unflatten(-1, (HEADS, HEAD_DIM)).sum(-1)
            costs[block.index] = effect.square().mean(0)
            continue
        # Of a weight, position by position: what w does there alone, all other positions held as they are.
        outputs = []
        handle = block.down_proj.register_forward_hook(lambda module, inputs, output, to=outputs: to.append(output))
        seen, logits = inputs_of(loaded, ids)
        handle.remove()
        (gradient,) = torch.autograd.grad(log_probability(logits, ids), outputs[0])
        weight, squares = block.down_proj.weight.detach(), 0.0
        for x, g in zip(seen[f"neurons.{block.index}"][0, :-1].detach(), gradient[0, :-1], strict=True):
            squares = squares + (weight * torch.outer(g, x)).square()
        costs[block.index] = squares / (len(ids) - 1)
    return costs


@pytest.fixture
def double(tiny):
    """The tiny model in float64."""
    model = type(tiny.model)(tiny.model.config).double().eval()
    model.load_state_dict(tiny.model.state_dict())
    return wrap(model, tiny.tokenizer, tiny.path)


@pytest.mark.parametrize("granularity", ["neuron", "head", "weight"])
@pytest.mark.parametrize("tokens", [1, 4096])
def test_cost_is_the_mean_square_over_positions_and_texts_count_alike(tiny, double, granularity, tokens):
    relevance = attribute(tiny, TEXTS, Settings(granularity), criterion=COST, tokens=tokens)
    texts = [double.tokenizer(text)["input_ids"] for text in TEXTS.texts]
    expected = [of_one(double, granularity, ids) for ids in texts]
    assert relevance.samples == len(TEXTS)
    for layer in (0, 1):
        close(relevance.scores[NAMES[granularity].format(layer)], mean([each[layer] for each in expected]))


def test_the_cost_of_a_text_does_not_depend_on_how_often_it_is_given(tiny):
    one, twice = (ReferenceSet(TEXTS.texts[:1] * count, "t", "text") for count in (1, 2))
    costs, again = (attribute(tiny, each, criterion=COST).scores["neurons.0"] for each in (one, twice))
    torch.testing.assert_close(costs, again)


def test_the_tokens_of_a_text_weigh_so_that_squares_add_up_to_their_mean():
    for tokens in (1, 4, 7):
        assert len(token_weights(tokens)) == tokens
        assert sum(weight**2 for weight in token_weights(tokens)) == pytest.approx(1)
    assert token_weights(0) == ()


def test_a_text_of_one_token_costs_what_its_likeliest_next_one_does(tiny):
    single = attribute(tiny, ReferenceSet(("cat",), "t", "text"), criterion=COST).scores
    ids = tiny.tokenizer("cat")["input_ids"]
    assert len(ids) == 1
    seen, logits = inputs_of(tiny, ids)
    logits[0].log_softmax(-1).max().backward()
    for layer in (0, 1):
        a = seen[f"neurons.{layer}"]
        close(single[f"neurons.{layer}"], (a * a.grad)[0, 0].detach().square())
