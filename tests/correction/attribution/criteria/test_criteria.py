"""Every criterion against a slow second derivation, and what they refuse."""

import pytest
import torch

from correction.attribution.attribution import attribute
from correction.attribution.criteria import CRITERIA, Settings
from correction.attribution.criteria.output_seeds import Sample, seeded_batches
from correction.data.references import ReferenceSet
from correction.errors import CriterionError
from tests.correction import rederivation
from tests.correction.conftest import scores_of

SEQUENCES = [[1, 8, 17, 30, 9, 22], [1, 14, 6, 25], [1, 40, 11, 12, 33, 7, 19, 28, 35]]
ANSWERS = [[5, 9], [], [12, 30, 30]]
SAMPLES = [Sample(tuple(ids), tuple(answer)) for ids, answer in zip(SEQUENCES, ANSWERS, strict=True)]
HEADS, HEAD_DIM = 4, 8


def close(mine, theirs, tolerance=2e-5):
    assert mine.dtype == torch.float32
    torch.testing.assert_close(mine.double(), theirs.double(), rtol=0, atol=tolerance * float(theirs.abs().max()))


def inputs_of(loaded, ids):
    """What enters down_proj and o_proj of each layer when one sample is read alone, and its logits."""
    seen = {}
    handles = []
    for block in loaded.blocks:
        for name, module in (("neurons", block.down_proj), ("heads", block.o_proj)):

            def keep(module, inputs, key=f"{name}.{block.index}"):
                seen[key] = inputs[0]
                if inputs[0].requires_grad:
                    inputs[0].retain_grad()

            handles.append(module.register_forward_pre_hook(keep))
    logits = loaded.model(torch.tensor([ids])).logits[0]
    for handle in handles:
        handle.remove()
    return seen, logits


def outputs(seed, ids, answer):
    """(ids to read, function of the logits) of one sample."""
    last = len(ids) - 1
    if seed == "last":
        return ids, lambda logits: logits[last].max()
    if seed == "all":
        return ids, lambda logits: logits.max(-1).values.mean()
    if seed == "contrastive":
        return ids, lambda logits: logits[last].topk(2).values[0] - logits[last].topk(2).values[1]
    if not answer:
        return ids, lambda logits: logits[last].max()
    return ids + answer[:-1], lambda logits: torch.stack([logits[last + s, t] for s, t in enumerate(answer)]).mean()


def mean(values):
    return torch.stack(values).mean(0)


@pytest.mark.parametrize("seed", ["last", "all", "response", "contrastive"])
@pytest.mark.parametrize("sign", ["signed", "absolute"])
def test_gradient_is_activation_or_weight_times_gradient(tiny, seed, sign):
    magnitude = torch.abs if sign == "absolute" else torch.clone
    expected = {}
    for ids, answer in zip(SEQUENCES, ANSWERS, strict=True):
        read, value = outputs(seed, ids, answer)
        tiny.model.zero_grad()
        seen, logits = inputs_of(tiny, read)
        value(logits).backward()
        for block in tiny.blocks:
            n = block.index
            neurons = (seen[f"neurons.{n}"] * seen[f"neurons.{n}"].grad)[0].detach()
            heads = (seen[f"heads.{n}"] * seen[f"heads.{n}"].grad)[0].detach()
            expected.setdefault(f"neurons.{n}", []).append(magnitude(neurons.sum(0)))
            expected.setdefault(f"heads.{n}", []).append(magnitude(heads.sum(0).view(HEADS, HEAD_DIM).sum(-1)))
            weight = block.down_proj.weight
            name = f"weights.model.layers.{n}.mlp.down_proj.weight"
            expected.setdefault(name, []).append(magnitude((weight * weight.grad).detach()))
    tiny.model.zero_grad()
    for granularity in ("neuron", "head", "weight"):
        relevance = scores_of(tiny, "gradient", SAMPLES, Settings(granularity=granularity, seed=seed, sign=sign))
        assert relevance.samples == 3
        for name, score in relevance.scores.items():
            close(score, mean(expected[name]))


@pytest.mark.parametrize("granularity", ["neuron", "head", "weight"])
def test_snip_is_the_magnitude_of_what_the_response_loss_says(tiny, granularity):
    expected = {}
    for ids, answer in zip(SEQUENCES, ANSWERS, strict=True):
        tiny.model.zero_grad()
        last = len(ids) - 1
        seen, logits = inputs_of(tiny, ids + answer[:-1])
        target = torch.tensor(answer) if answer else logits[last:].argmax(-1)
        torch.nn.functional.cross_entropy(logits[last:], target).backward()
        for block in tiny.blocks:
            n = block.index
            a, weight = seen[f"{granularity}s.{n}"] if granularity != "weight" else None, block.down_proj.weight
            if granularity == "weight":
                name, value = f"weights.model.layers.{n}.mlp.down_proj.weight", weight * weight.grad
            else:
                name, value = f"{granularity}s.{n}", (a * a.grad)[0].sum(0)
                if granularity == "head":
                    value = value.view(HEADS, HEAD_DIM).sum(-1)
            expected.setdefault(name, []).append(value.detach().abs())
    tiny.model.zero_grad()
    relevance = scores_of(tiny, "snip", SAMPLES, Settings(granularity=granularity))
    for name, score in relevance.scores.items():
        close(score, mean(expected[name]))


def test_activation_is_the_mean_magnitude_of_what_a_component_says(tiny):
    for granularity, width in (("neuron", 1), ("head", HEAD_DIM)):
        expected = {}
        for ids in SEQUENCES:
            seen, _ = inputs_of(tiny, ids)
            for n in range(2):
                a = seen[f"{granularity}s.{n}"][0].detach().unflatten(-1, (-1, width))
                expected.setdefault(f"{granularity}s.{n}", []).append(a.norm(dim=-1).mean(0))
        relevance = scores_of(tiny, "activation", SAMPLES, Settings(granularity=granularity))
        for name, score in relevance.scores.items():
            close(score, mean(expected[name]))


def test_wanda_is_the_weight_times_the_norm_of_its_input(tiny):
    ids = [[1, 8, 17, 30], [1, 14, 6, 25]]  # of one length: but for a constant, the norm over all tokens
    samples = [Sample(tuple(each)) for each in ids]
    norms = {}
    for n in range(2):
        x = torch.cat([inputs_of(tiny, each)[0][f"neurons.{n}"][0].detach() for each in ids])
        norms[n] = x.norm(dim=0) / 8**0.5
    weights = scores_of(tiny, "wanda", samples, Settings(granularity="weight"))
    neurons = scores_of(tiny, "wanda", samples, Settings())
    for n, block in enumerate(tiny.blocks):
        expected = block.down_proj.weight.detach().abs() * norms[n]
        close(weights.scores[f"weights.model.layers.{n}.mlp.down_proj.weight"], expected)
        close(neurons.scores[f"neurons.{n}"], expected.sum(0))


def test_magnitude_is_of_what_a_component_writes_with(tiny):
    for n, block in enumerate(tiny.blocks):
        down, o = block.down_proj.weight.detach(), block.o_proj.weight.detach()
        neurons, heads, weights = (
            scores_of(tiny, "magnitude", SAMPLES, Settings(granularity=each)).scores
            for each in ("neuron", "head", "weight")
        )
        close(neurons[f"neurons.{n}"], down.norm(dim=0))
        close(heads[f"heads.{n}"], torch.stack([part.norm() for part in o.split(HEAD_DIM, dim=1)]))
        close(weights[f"weights.model.layers.{n}.mlp.down_proj.weight"], down.abs())


def test_random_scores_follow_their_seed(tiny):
    one, same, other = (
        scores_of(tiny, "random", SAMPLES, Settings(random_seed=seed)).scores["neurons.1"] for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert 0 <= float(one.min()) < float(one.max()) < 1


def test_lrp_relevance_of_a_head_is_that_of_its_slice(tiny):
    asked = Settings(granularity="head", seed="last", sign="signed")
    relevance = scores_of(tiny, "lrp", [Sample(tuple(ids)) for ids in SEQUENCES], asked)
    expected = [rederivation.attnlrp(tiny.model, ids, [(len(ids) - 1, -1)]) for ids in SEQUENCES]
    for n in range(2):
        close(relevance.scores[f"heads.{n}"], mean([layers[n].r_heads for layers in expected]))


@pytest.mark.parametrize("criterion", ["gradient", "snip", "wanda", "activation", "lrp"])
def test_a_batch_gives_what_its_samples_give_one_by_one(tiny, criterion):
    for granularity in CRITERIA[criterion].granularities:
        asked = Settings(granularity=granularity, seed="response")
        together = scores_of(tiny, criterion, SAMPLES, asked)
        alone = scores_of(tiny, criterion, SAMPLES, asked, tokens=1)
        for name, score in alone.scores.items():
            close(together.scores[name], score, 1e-5)


def test_a_criterion_says_what_it_cannot_score(tiny):
    prompts = ReferenceSet(("who are you",), "p", "prompt")
    with pytest.raises(CriterionError, match="wanda cannot score heads; it scores neurons, weights"):
        attribute(tiny, prompts, Settings(granularity="head"), criterion="wanda")
    with pytest.raises(CriterionError, match="activation cannot score weights; it scores neurons, heads"):
        attribute(tiny, prompts, Settings(granularity="weight"), criterion="activation")


def test_layers_and_modules_restrict_what_is_scored(tiny):
    assert list(scores_of(tiny, "lrp", SAMPLES, Settings(layers=(1,))).scores) == ["neurons.1"]
    asked = Settings(granularity="weight", modules=("o_proj", "up_proj"), layers=(0,))
    names = [f"weights.model.layers.0.{name}.weight" for name in ("self_attn.o_proj", "mlp.up_proj")]
    assert list(scores_of(tiny, "gradient", SAMPLES, asked).scores) == names
    with pytest.raises(CriterionError, match="no layer 2; it has layers 0 to 1"):
        scores_of(tiny, "lrp", SAMPLES, Settings(layers=(2,)))
    with pytest.raises(CriterionError, match=r"called fc9; there is: down_proj, gate_proj, k_proj"):
        scores_of(tiny, "lrp", SAMPLES, Settings(granularity="weight", modules=("fc9",)))
    with pytest.raises(CriterionError, match="neurons have none"):
        Settings(modules=("down_proj",))


def test_a_text_is_contrasted_at_every_token_and_a_prompt_at_the_last():
    prompt, text = (next(seeded_batches([Sample((1, 2, 3), throughout=each)], "contrastive")) for each in (False, True))
    assert prompt.positions.tolist() == [2, 2]
    assert (prompt.tokens.tolist(), prompt.weights.tolist()) == ([-1, -2], [1, -1])
    assert text.positions.tolist() == [0, 1, 2, 0, 1, 2]
    assert text.weights.sum() == 0


@pytest.mark.parametrize("criterion", ["wanda", "activation"])
def test_from_responses_what_is_read_is_where_they_are_said(tiny, criterion):
    expected = {}
    for ids, answer in zip(SEQUENCES, ANSWERS, strict=True):
        seen, _ = inputs_of(tiny, ids + answer[:-1])  # of no answer, where the model chose to say nothing
        for n in range(2):
            a = seen[f"neurons.{n}"][0, len(ids) - 1 :].detach()
            expected.setdefault(n, []).append((a.square() if criterion == "wanda" else a.abs()).mean(0))
    relevance = scores_of(tiny, criterion, SAMPLES, Settings(seed="response"))
    for n, block in enumerate(tiny.blocks):
        value = mean(expected[n])
        if criterion == "wanda":
            value = value.sqrt() * block.down_proj.weight.detach().abs().sum(0)
        close(relevance.scores[f"neurons.{n}"], value)
