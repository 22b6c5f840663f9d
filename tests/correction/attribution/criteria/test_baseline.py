"""Activations held against those of another response to the same prompt."""

import pytest
import torch

from correction.attribution.attribution import attribute, pair_responses
from correction.attribution.criteria import Settings
from correction.attribution.criteria.output_seeds import Sample
from correction.data.references import ReferenceSet
from correction.errors import CriterionError, ReferenceSetError
from correction.selection.ranking import Ranking
from tests.correction.attribution.criteria.test_criteria import HEAD_DIM, HEADS, close, inputs_of
from tests.correction.conftest import scores_of

PAIRS = [
    ((1, 8, 17, 30), (5, 9), (12, 30, 30)),
    ((1, 14), (25, 7, 7, 8), (40,)),
    ((1, 40, 11, 12, 33), (7, 7), (9, 22)),
]
SAMPLES = [Sample(*pair[:2], negatives=pair[2]) for pair in PAIRS]


def expected(tiny):
    """Σ over positions of the response of (a − ā) · ∂, by hand and one by one: {name: (samples, components)}."""
    by_name = {}
    for given, response, negatives in PAIRS:
        with torch.no_grad():
            held, _ = inputs_of(tiny, [*given, *negatives])
        tiny.model.zero_grad()
        seen, logits = inputs_of(tiny, [*given, *response[:-1]])
        places = torch.arange(len(response)) + len(given) - 1
        logits[places, torch.tensor(response)].mean().backward()
        for name, activation in seen.items():
            mean = held[name][0, len(given) :].mean(0)
            relevance = ((activation[0] - mean) * activation.grad[0])[len(given) :].sum(0).detach()
            relevance = relevance.view(HEADS, HEAD_DIM).sum(-1) if name.startswith("heads") else relevance
            by_name.setdefault(name, []).append(relevance)
    return {name: torch.stack(each) for name, each in by_name.items()}


@pytest.mark.parametrize("granularity", ["neuron", "head"])
@pytest.mark.parametrize("tokens", [1, 4096])
def test_it_is_the_difference_of_activations_times_the_gradient(tiny, granularity, tokens):
    asked = Settings(granularity, seed="response", sign="signed", baseline="spared")
    relevance = scores_of(tiny, "gradient", SAMPLES, asked, tokens=tokens)
    truth = expected(tiny)
    for name, score in relevance.scores.items():
        close(score, truth[name].mean(0))


def test_a_response_held_against_nothing_else_is_as_before(tiny):
    plain = [Sample(*pair[:2]) for pair in PAIRS]
    asked = Settings(seed="response", sign="signed")
    for name, score in scores_of(tiny, "lrp", plain, asked).scores.items():
        close(scores_of(tiny, "lrp", SAMPLES, asked).scores[name], score)


def test_prompts_with_both_kinds_are_read_and_others_left_out(tiny):
    shown = ReferenceSet(("who", "why", "who", "tell"), "p", "prompt", ("a cat", "sea", "old", "new"))
    negatives = ReferenceSet(("tell", "who", "blue"), "p", "prompt", ("red", "small", "big"))
    one, other = pair_responses(shown, negatives)
    assert (one.texts, one.responses) == (("who", "who", "tell"), ("a cat", "old", "new"))
    assert (other.texts, other.responses) == (("who", "who", "tell"), ("small", "small", "red"))
    asked = Settings(seed="shown", sign="lower", baseline="spared")
    relevance = attribute(tiny, shown, asked, negatives=negatives)
    assert relevance.samples == 3
    without = attribute(tiny, one, Settings(seed="shown", sign="lower"))
    assert all((relevance.scores[name] != score).any() for name, score in without.scores.items())


def test_where_no_prompt_has_both_it_says_so(tiny):
    shown = ReferenceSet(("who",), "p", "prompt", ("a cat",))
    asked = Settings(seed="shown", baseline="spared")
    for negatives in (None, ReferenceSet(("why",), "p", "prompt", ("sea",))):
        with pytest.raises(ReferenceSetError, match="no prompt has both"):
            attribute(tiny, shown, asked, negatives=negatives)


@pytest.mark.parametrize(
    ("criterion", "given", "why"),
    [
        ("lrp", {"seed": "next"}, "not for neurons by the seed next"),
        ("snip", {"seed": "response"}, "has no baseline"),
        ("lrp", {"seed": "response", "contrast": "difference"}, "not difference"),
        ("gradient", {"granularity": "weight", "seed": "response"}, "not for weights"),
    ],
)
def test_what_it_is_not_for(criterion, given, why):
    with pytest.raises(CriterionError, match=why):
        Ranking.default(criterion, baseline="spared", **{"contrast": "cost", **given})


def test_a_mask_records_it():
    assert Ranking.default("lrp", baseline="spared").described()["baseline"] == "spared"
    assert "baseline" not in Ranking.default("lrp").described()
