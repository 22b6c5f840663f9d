"""Each model family: loaded, attributed, cut and answered from as Llama is."""

import pytest
import torch
from transformers import AutoModelForCausalLM

import masks
from correction.ablation import ablated
from correction.attribution.attribution import attribute
from correction.attribution.criteria import CRITERIA, Settings
from correction.attribution.criteria.lrp import attnlrp
from correction.attribution.criteria.output_seeds import Sample
from correction.data.generation import generate
from correction.data.references import ReferenceSet
from correction.errors import ArchitectureError
from correction.models import load, wrap
from masks import families
from tests.correction import rederivation
from tests.correction.conftest import scores_of
from tests.correction.families import FAMILIES, save_family
from tests.correction.test_leaves_no_trace import trace

SEQUENCES = [[1, 8, 17, 30, 9, 22], [1, 14, 6, 25], [1, 40, 11, 12, 33, 7, 19, 28, 35]]


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request, tmp_path_factory):
    return load(save_family(request.param, tmp_path_factory.mktemp(request.param)), device="cpu")


def test_every_supported_family_is_tested():
    assert {name.partition("-")[0] for name in FAMILIES} == set(families.FAMILIES)


@pytest.mark.parametrize("seed", ["last", "all"])
def test_lrp_equals_relevance_propagated_by_hand(family, seed):
    if seed == "all":
        seeds = [([(p, -1) for p in range(len(ids))], 1 / len(ids)) for ids in SEQUENCES]
    else:
        seeds = [([(len(ids) - 1, -1)], 1.0) for ids in SEQUENCES]
    by_hand = [rederivation.attnlrp(family.model, ids, *each) for ids, each in zip(SEQUENCES, seeds, strict=True)]
    down = family.architecture.down_proj.rpartition(".")[2]
    up = family.architecture.up.rpartition(".")[2]
    samples = [Sample(tuple(ids)) for ids in SEQUENCES]
    for granularity, name in (("neuron", "r_neurons"), ("head", "r_heads"), ("weight", "r_down"), ("weight", "r_up")):
        modules = {"modules": (down if name == "r_down" else up,)} if granularity == "weight" else {}
        asked = Settings(granularity=granularity, seed=seed, sign="signed", **modules)
        relevance = scores_of(family, "lrp", samples, asked)
        for layer, score in enumerate(relevance.scores.values()):
            expected = torch.stack([getattr(layers[layer], name) for layers in by_hand]).mean(0)
            torch.testing.assert_close(score.double(), expected, rtol=0, atol=5e-5 * float(expected.abs().max()))


def test_the_model_under_lrp_says_what_it_says(family):
    ids = torch.tensor([SEQUENCES[2]])
    with torch.no_grad():
        plain = family.model(ids).logits
        with attnlrp(family):
            torch.testing.assert_close(family.model(ids).logits, plain, rtol=1e-5, atol=1e-5)


def test_every_criterion_scores_it_and_leaves_no_trace(family):
    prompts = ReferenceSet(("who are you", "tell me about the sea", "why"), "p", "prompt")
    before = trace(family.model)
    geometry = family.base.geometry
    sizes = {"neuron": geometry.neurons, "head": geometry.heads, "weight": geometry.neurons * geometry.hidden}
    for name, criterion in CRITERIA.items():
        for granularity in criterion.granularities:
            settings = Settings(granularity=granularity, seed="response", response_tokens=3)
            relevance = attribute(family, prompts, settings, criterion=name)
            assert len(relevance) == 2 * sizes[granularity]
            assert all(bool(score.isfinite().all()) for score in relevance.scores.values())
    assert trace(family.model) == before


def test_ablation_equals_editing_the_weights(family, tmp_path):
    down = f"{family.blocks[1].prefix}.{family.architecture.up}.weight"
    mask = masks.for_model(
        family.path, "m", neurons={0: [1, 5, 40]}, heads={1: [0, 3]}, weights={down: ([0, 3], [2, 7])}
    )
    edited = AutoModelForCausalLM.from_pretrained(family.path)
    parameters = dict(edited.named_parameters())
    with torch.no_grad():
        parameters[f"{family.blocks[0].prefix}.{family.architecture.down_proj}.weight"][:, [1, 5, 40]] = 0
        o = parameters[f"{family.blocks[1].prefix}.{family.architecture.o_proj}.weight"]
        dim = family.base.geometry.head_dim
        for head in (0, 3):
            o[:, head * dim : (head + 1) * dim] = 0
        parameters[down][[0, 3], [2, 7]] = 0
        ids = torch.tensor([SEQUENCES[2]])
        with ablated(family, mask):
            ablated_logits = family.model(ids).logits
        torch.testing.assert_close(ablated_logits, edited.eval()(ids).logits, rtol=0, atol=0)
        assert not torch.equal(ablated_logits, family.model(ids).logits)


def test_greedy_answers_are_those_of_generate(family):
    together = generate(family, SEQUENCES, max_new_tokens=8)
    for ids, answer in zip(SEQUENCES, together, strict=True):
        whole = family.model.generate(
            torch.tensor([ids]),
            max_new_tokens=8,
            do_sample=False,
            pad_token_id=0,
            attention_mask=torch.ones(1, len(ids)),
        )
        said = whole[0, len(ids) :].tolist()
        assert answer == (said[: said.index(2)] if 2 in said else said)


def test_bfloat16_and_shards_load(tmp_path):
    folder = save_family("qwen2", tmp_path, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    loaded = load(folder, dtype="bfloat16", device="cpu")
    relevance = attribute(loaded, ReferenceSet(("why",), "p", "prompt"))
    assert all(bool(score.isfinite().all()) for score in relevance.scores.values())


def test_a_model_whose_modules_are_not_plain_is_refused_with_the_reason(tmp_path):
    folder = save_family("llama", tmp_path)
    loaded = load(folder, device="cpu")
    loaded.model.model.layers[1].mlp.down_proj = torch.nn.Identity()
    with pytest.raises(ArchitectureError, match=r"layer 1 of this llama model: mlp.down_proj is a Identity"):
        wrap(loaded.model, loaded.tokenizer, folder)
