import pytest
import torch

from correction.attribution.attribution import attribute
from correction.attribution.criteria import Settings, lrp
from correction.attribution.criteria.output_seeds import Sample
from correction.data.references import ReferenceSet
from correction.errors import CriterionError
from tests.correction import rederivation
from tests.correction.conftest import scores_of

MLP = ("gate_proj", "up_proj", "down_proj")
SEQUENCES = [[1, 8, 17, 30, 9, 22], [1, 14, 6, 25], [1, 40, 11, 12, 33, 7, 19, 28, 35]]


def close(mine, theirs, tolerance=2e-5):
    assert mine.dtype == torch.float32
    torch.testing.assert_close(mine.double(), theirs, rtol=0, atol=tolerance * float(theirs.abs().max()))


def relevance_of(loaded, samples, tokens=4096, **settings):
    return scores_of(loaded, "lrp", samples, Settings(**settings), tokens)


@pytest.mark.parametrize("seed", ["last", "response", "all"])
@pytest.mark.parametrize("sign", ["signed", "absolute"])
def test_neurons_and_weights_equal_relevance_propagated_by_hand(tiny, seed, sign):
    answers = [[5, 9], [], [12, 30, 30]]
    samples = [Sample(tuple(ids), tuple(answer)) for ids, answer in zip(SEQUENCES, answers, strict=True)]
    expected = []
    for ids, answer in zip(SEQUENCES, answers, strict=True):
        last = len(ids) - 1
        seeds, weight = [(last, -1)], 1.0
        if seed == "all":
            seeds, weight = [(position, -1) for position in range(len(ids))], 1 / len(ids)
        elif seed == "response" and answer:
            ids = ids + answer[:-1]
            seeds, weight = [(last + step, token) for step, token in enumerate(answer)], 1 / len(answer)
        expected.append(rederivation.attnlrp(tiny.model, ids, seeds, weight))

    def mean(read):
        each = torch.stack([read(layers) for layers in expected])
        return (each.abs() if sign == "absolute" else each).mean(0)

    neurons = relevance_of(tiny, samples, granularity="neuron", seed=seed, sign=sign)
    weights = relevance_of(tiny, samples, granularity="weight", seed=seed, sign=sign, modules=MLP)
    assert neurons.samples == weights.samples == len(samples)
    for index in range(2):
        close(neurons.scores[f"neurons.{index}"], mean(lambda layers, n=index: layers[n].r_neurons))
        for name in ("gate", "up", "down"):
            mine = weights.scores[f"weights.model.layers.{index}.mlp.{name}_proj.weight"]
            close(mine, mean(lambda layers, n=index, m=name: getattr(layers[n], f"r_{m}")))


def test_scores_come_in_component_order_and_for_the_modules_asked(tiny):
    samples = [Sample((1, 8, 9))]
    neurons = relevance_of(tiny, samples)
    assert list(neurons.scores) == ["neurons.0", "neurons.1"]
    assert len(neurons) == 2 * 48
    asked = relevance_of(tiny, samples, granularity="weight", modules=("down_proj",))
    assert list(asked.scores) == [f"weights.model.layers.{layer}.mlp.down_proj.weight" for layer in range(2)]
    with pytest.raises(CriterionError, match="fc1"):
        relevance_of(tiny, samples, granularity="weight", modules=("fc1", "up_proj"))


@pytest.mark.parametrize("granularity", ["neuron", "weight"])
@pytest.mark.parametrize("sign", ["signed", "absolute"])
@pytest.mark.parametrize("seed", ["last", "response", "all"])
def test_a_batch_gives_what_its_samples_give_one_by_one(tiny, granularity, sign, seed):
    samples = [Sample(tuple(ids), (9, 8, 7)[: len(ids) % 3 + 1]) for ids in SEQUENCES]
    asked = {"granularity": granularity, "sign": sign, "seed": seed}
    together = relevance_of(tiny, samples, **asked)
    alone = relevance_of(tiny, samples, tokens=1, **asked)
    for name, score in alone.scores.items():
        scale = float(score.abs().max())
        torch.testing.assert_close(together.scores[name], score, rtol=0, atol=1e-5 * scale)


def test_the_attention_seen_is_that_of_the_model_itself(tiny):
    ids = torch.tensor([SEQUENCES[0]])
    with torch.no_grad():
        plain = tiny.model(ids).logits
        with lrp.attnlrp(tiny):
            torch.testing.assert_close(tiny.model(ids).logits, plain, rtol=0, atol=0)


def test_bfloat16_ranks_nearly_as_float32(tiny):
    samples = [Sample(tuple(ids)) for ids in SEQUENCES]
    fine = relevance_of(tiny, samples)
    tiny.model.to(torch.bfloat16)
    coarse = relevance_of(tiny, samples)
    for name, score in fine.scores.items():
        assert coarse.scores[name].dtype == torch.float32
        assert torch.corrcoef(torch.stack([score, coarse.scores[name]]))[0, 1] > 0.99


@pytest.mark.parametrize("seed", ["last", "response"])
def test_attribute_reads_a_reference_set_with_the_models_own_responses(tiny, seed):
    prompts = ReferenceSet(("who are you", "tell me about the sea"), "p", "prompt")
    calls = []
    settings = Settings(seed=seed, response_tokens=4)
    relevance = attribute(tiny, prompts, settings, progress=lambda *call: calls.append(call))
    assert relevance.samples == 2
    assert ("responses" in {stage for stage, _, _ in calls}) == (seed == "response")
    assert calls[-1] == ("attribution", 1, 1)


def test_next_is_the_last_token_of_a_prompt_and_every_token_of_a_text(tiny):
    for kind, same in (("prompt", "last"), ("text", "all")):
        references = ReferenceSet(("the cat sees a dog", "sea"), "r", kind)
        relevance, expected = (attribute(tiny, references, Settings(seed=seed)) for seed in ("next", same))
        assert all(torch.equal(relevance.scores[name], score) for name, score in expected.scores.items())


def test_a_text_is_its_own_response(tiny):
    texts = ReferenceSet(("the cat sees a dog", "sea"), "t", "text")
    calls = []
    relevance = attribute(
        tiny, texts, Settings(seed="response", sign="signed"), progress=lambda *call: calls.append(call)
    )
    assert calls == [("attribution", 1, 1)]
    layers = []
    for text in texts.texts:
        ids = tiny.tokenizer(text)["input_ids"]
        seeds = [(position, ids[position + 1]) for position in range(len(ids) - 1)] or [(0, -1)]
        layers.append(rederivation.attnlrp(tiny.model, ids, seeds, 1 / len(seeds)))
    for index in range(2):
        close(relevance.scores[f"neurons.{index}"], torch.stack([each[index].r_neurons for each in layers]).mean(0))


def test_defaults_are_what_measured_best():
    assert Settings.default() == Settings(granularity="neuron", seed="next", sign="absolute")
    assert Settings.default("weight") == Settings(granularity="weight", sign="signed")


def test_unknown_settings_are_refused():
    with pytest.raises(CriterionError, match="seed 'first' does not exist; there is: next, last,"):
        Settings(seed="first")
    with pytest.raises(CriterionError, match="granularity 'layer'"):
        Settings(granularity="layer")
    with pytest.raises(CriterionError, match="response_tokens"):
        Settings(response_tokens=0)


def test_an_unknown_criterion_is_refused(tiny):
    with pytest.raises(CriterionError, match="criterion 'best' does not exist; there is: lrp, gradient, snip, wanda"):
        attribute(tiny, ReferenceSet(("a",), "p", "prompt"), criterion="best")
