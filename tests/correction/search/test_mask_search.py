"""The search for a budget: what it tries is verified, what it chooses is allowed, and rounds build on each other."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import masks
from correction.ablation import ablated
from correction.attribution.attribution import attribute
from correction.attribution.criteria import Settings
from correction.attribution.criteria.cost import COST
from correction.correct import build_mask
from correction.data.behaviour_set import answer
from correction.data.detectors import RegexDetector
from correction.data.references import ReferenceSet
from correction.errors import ReferenceSetError, SelectionError
from correction.evaluation import compare, evaluate
from correction.options import AttributionOptions, GenerationOptions
from correction.search.mask_search import FEWEST, candidates, search
from correction.search.perplexity_budget import correct_within_budget
from correction.search.refinement import Refinement
from correction.search.trials import SearchResult, Trial
from correction.search.validation import Budget
from correction.selection.contrast import contrast
from correction.selection.ranking import Ranking
from stats.estimates import Estimate
from tests.correction.conftest import WORDS

PROMPTS = ReferenceSet(tuple(f"{a} {b}" for a in WORDS[:8] for b in WORDS[8:14]), "p", "prompt")
TEXTS = ReferenceSet(tuple(f"the {a} sees the old {b}" for a in WORDS[:6] for b in WORDS[20:26]), "t", "text")
ASKING = GenerationOptions(max_new_tokens=6)
QUICK = Refinement(candidates=40, steps=3, tokens=60)


@pytest.fixture
def word(tiny):
    """A word that many responses hold, and not all."""
    said = [
        set(each.text.split()) for each in answer(tiny, PROMPTS, RegexDetector("x"), **ASKING.as_arguments()).responses
    ]
    counts = {each: sum(each in words for words in said) for each in WORDS}
    return min(counts, key=lambda each: abs(counts[each] - len(said) / 2))


def run(tiny, word, **changes):
    behaviour, prompts = PROMPTS.split(0.4)
    general, text = TEXTS.split(0.4)
    rankings = [Ranking.default("lrp"), Ranking.default("gradient", contrast="difference")]
    options = {
        "budget": Budget(0.5),
        "rankings": rankings,
        "generation_options": ASKING,
        "refinement": QUICK,
        **changes,
    }
    return search(tiny, behaviour, general, prompts, text, RegexDetector(rf"\b{word}\b"), **options), prompts, text


def test_what_is_tried_is_what_ablation_measures(tiny, word):
    found, prompts, text = run(tiny, word, budget=Budget(2.0))
    before = evaluate(tiny, prompts, text, **ASKING.as_arguments())
    assert found.tried[0].behaviour_rate == np.mean([word in each.text.split() for each in before.responses])
    assert len(found.tried) >= 4
    for tried in found.tried[1:]:
        mask = build_mask(tiny, tried.gated, name="m", made={})
        assert mask.count == tried.count
        after = evaluate(tiny, prompts, text, mask=mask, **ASKING.as_arguments())
        rate = np.mean([word in each.text.split() for each in after.responses])
        assert tried.behaviour_rate == (rate if tried.increase.high <= 2.0 else np.inf)
        assert tried.increase.value == pytest.approx(compare(before, after).perplexity.value)
        json.dumps(tried.described())


def test_the_choice_is_the_best_that_is_allowed(tiny, word):
    found, _, _ = run(tiny, word, budget=Budget(2.0))
    allowed = [tried for tried in found.tried if tried.increase.high <= 2.0]
    assert found.chosen in allowed
    assert found.chosen.behaviour_rate == min(tried.behaviour_rate for tried in allowed) < found.tried[0].behaviour_rate


def test_a_round_adds_to_the_best_of_the_one_before(tiny, word, monkeypatch):
    monkeypatch.setattr("correction.search.mask_search.FEWEST", 1)
    found, _, _ = run(tiny, word, budget=Budget(0.6), rounds=2)
    first = [tried for tried in found.tried if tried.round <= 1 and tried.increase.high <= 0.3]
    start = min(first, key=lambda tried: (tried.behaviour_rate, tried.increase.value, tried.count))
    # The refinement starts from there and may let go what it does not need.
    second = [tried for tried in found.tried if tried.round == 2 and not tried.label.endswith("refined")]
    assert second
    for tried in second:
        assert tried.count > start.count
        for name, places in start.gated.items():
            assert set(places) <= set(tried.gated[name])


def test_the_same_search_finds_the_same(tiny, word):
    one, other = (run(tiny, word, rounds=1)[0] for _ in range(2))
    assert [tried.described() for tried in one.tried] == [tried.described() for tried in other.tried]


def test_several_granularities_join_in_one_mask(tiny, word):
    rankings = [
        Ranking.default("lrp", "neuron"),
        Ranking.default("lrp", "weight"),
        Ranking.default("gradient", "head"),
    ]
    found, _, _ = run(tiny, word, budget=Budget(3.0), rounds=3, rankings=rankings)
    kinds = {name.partition(".")[0] for tried in found.tried for name in tried.gated}
    assert {"neurons", "weights"} <= kinds
    with ablated(tiny, build_mask(tiny, found.chosen.gated, name="m", made={})):
        pass


def test_a_journal_of_one_round_is_not_taken_for_that_of_another(tiny, word, tmp_path, monkeypatch):
    monkeypatch.setattr("correction.search.mask_search.FEWEST", 1)
    plain, _, _ = run(tiny, word, budget=Budget(0.6), rounds=2)
    journaled, _, _ = run(
        tiny, word, budget=Budget(0.6), rounds=2, attribution_options=AttributionOptions(resume=tmp_path)
    )
    again, _, _ = run(tiny, word, budget=Budget(0.6), rounds=2, attribution_options=AttributionOptions(resume=tmp_path))
    expected = [tried.described() for tried in plain.tried]
    assert [tried.described() for tried in journaled.tried] == expected
    assert [tried.described() for tried in again.tried] == expected
    assert len(list(tmp_path.iterdir())) == 8  # as many in the second round as in the first


def test_what_cannot_be_searched_is_told(tiny, word):
    with pytest.raises(SelectionError, match=r"over 0, as 0\.01 for 1%"):
        run(tiny, word, budget=Budget(0))
    with pytest.raises(SelectionError, match="there are 0 rounds and 2 rankings"):
        run(tiny, word, rounds=0)
    with pytest.raises(SelectionError, match="no cut that was tried lowers the behaviour"):
        run(tiny, word, budget=Budget(1e-12, kl=1e-12))
    with pytest.raises(ReferenceSetError, match=f"only 0 responses show the behaviour, and a search needs {FEWEST}"):
        run(tiny, "nothing")


def test_a_mask_within_a_budget_tells_how_it_was_found_and_measures_apart(tiny, word, tmp_path):
    options = {"name": "quiet", "budget": Budget(2.0), "rankings": candidates("neuron"), "refinement": QUICK}
    test = RegexDetector(rf"\b{word}\b")
    corrected = correct_within_budget(tiny, PROMPTS, TEXTS, test, generation_options=ASKING, **options)
    masks.save(corrected.mask, tmp_path / "m.safetensors")
    mask = masks.load(tmp_path / "m.safetensors")
    made, measured = mask.meta.made, mask.meta.measured
    sizes = [made["behaviour"]["size"], made["search"]["prompts"]["size"], measured["prompts"]["size"]]
    assert sum(sizes) == len(PROMPTS)
    assert len({made["behaviour"]["sha256"], made["search"]["prompts"]["sha256"], measured["prompts"]["sha256"]}) == 3
    assert made["search"]["max_perplexity_increase"] == 2.0
    assert [each["criterion"] for each in made["rankings"]] == ["gradient", "lrp", "lrp"]
    assert made["search"]["chosen"]["count"] == mask.count
    held_out = PROMPTS.split(0.25)[1]
    for side, cut in (("before", None), ("after", mask)):
        said = evaluate(tiny, held_out, mask=cut, **ASKING.as_arguments()).responses
        assert measured["shown"][side][:2] == [sum(word in each.text.split() for each in said), len(said)]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-0.1, 1)), max_size=12))
def test_nothing_beats_the_front(points):
    tried = [Trial("x", 1, shown, Estimate(cost, cost, cost), 0.0, {}, Estimate(0, 0, 0)) for shown, cost in points]
    tried.insert(0, Trial("none", 0, 1.0, Estimate(0, 0, 0), 0.0, {}, Estimate(0, 0, 0)))
    front = SearchResult(tried[0], tuple(tried)).front
    for each in tried:
        better = [
            one
            for one in tried
            if one.behaviour_rate <= each.behaviour_rate
            and one.increase.value <= each.increase.value
            and (one.behaviour_rate, one.increase.value) != (each.behaviour_rate, each.increase.value)
        ]
        told = any(
            (one.behaviour_rate, one.increase.value) == (each.behaviour_rate, each.increase.value) for one in front
        )
        assert told == (not better)


def test_a_cut_by_cost_is_gain_over_cost(tiny):
    general = ReferenceSet(("the cat sees a dog",), "g", "text")
    behaviour = ReferenceSet(("who", "why"), "b", "prompt", ("red sea", "old"))
    ranking = Ranking.default("lrp")
    gain = attribute(tiny, behaviour, Settings(seed="shown", sign="lower"), criterion="lrp").scores
    cost = attribute(tiny, general, Settings(), criterion=COST).scores
    floor = 0.1 * sum(float(score.double().sum()) for score in cost.values()) / (2 * 48)
    for name, score in ranking.scores(tiny, behaviour, general).scores.items():
        assert np.allclose(score, -gain[name].double() / (cost[name].double() + floor), rtol=1e-4)
    with pytest.raises(Exception, match="needs the relevance for a behaviour set"):
        contrast(ranking.general(tiny, general), None, "cost")
