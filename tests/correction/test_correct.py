from dataclasses import replace

import pytest

import masks
from correction.ablation import ablated
from correction.attribution.criteria import CRITERIA, Settings
from correction.correct import correct, measure
from correction.data.detectors import RegexDetector
from correction.data.references import ReferenceSet
from correction.errors import CriterionError, ReferenceSetError, SelectionError
from correction.evaluation import evaluate
from correction.options import GenerationOptions
from correction.selection.cut import Cut
from correction.selection.ranking import Ranking
from edits.cover import ranks

THINGS = ("cat", "dog", "sea", "key", "lamp", "book", "ship", "tree")
BEHAVIOUR = ReferenceSet(tuple(f"what is a {thing}" for thing in THINGS), "b", "prompt")
GENERAL = ReferenceSet(tuple(f"the {thing} sees the old red lamp" for thing in THINGS[:6]), "g", "text")


def make(tiny, cut=None, ranking=None, **changes):
    options = {"name": "detox", "generation_options": GenerationOptions(max_new_tokens=4), **changes}
    return correct(tiny, BEHAVIOUR, GENERAL, cut=cut or Cut(count=5), ranking=ranking, **options)


@pytest.mark.parametrize(
    ("settings", "criterion"),
    [
        (Settings(), "lrp"),
        (Settings(granularity="weight", sign="absolute", seed="all", modules=("up_proj",)), "lrp"),
        (Settings(seed="response", response_tokens=3), "lrp"),
        (Settings(random_seed=7), "random"),
        (Settings(granularity="weight", random_seed=7), "random"),
        (Settings(granularity="head"), "gradient"),
        (Settings(layers=(1,)), "wanda"),
        (Settings(granularity="weight"), "snip"),
        (Settings(), "magnitude"),
    ],
)
def test_a_mask_comes_with_how_it_was_made_and_what_it_measured(tiny, tmp_path, settings, criterion):
    mask = make(tiny, ranking=Ranking(criterion, settings, "difference" if CRITERIA[criterion].reads else "general"))
    masks.save(mask, tmp_path / "m.safetensors")
    mask = masks.load(tmp_path / "m.safetensors")
    kind = f"{settings.granularity}s"
    assert (mask.name, mask.counts[kind], mask.count) == ("detox", 5, 5)
    made, measured = mask.meta.made, mask.meta.measured
    assert (made["criterion"], made["granularity"]) == (criterion, settings.granularity)
    assert made["budget"] == {"count": 5}
    assert (made["behaviour"]["size"], made["general"]["size"]) == (6, 4)
    assert made["behaviour"]["sha256"] == BEHAVIOUR.split(0.25)[0].sha256[:16]
    assert made["contrast"] == ("general" if criterion in ("random", "magnitude") else "difference")
    assert set(made["versions"]) == {"excise", "torch", "transformers"}
    assert ("random_seed" in made) == (criterion == "random")
    assert ("seed" in made) == ("sign" in made) == (criterion in ("lrp", "gradient"))
    assert ("modules" in made) == (settings.modules is not None)
    assert ("layers" in made) == (settings.layers is not None)
    assert ("response_tokens" in made) == (criterion == "snip" or settings.seed == "response")
    assert (measured["prompts"]["size"], measured["text"]["size"]) == (2, 2)
    assert measured["before"]["toxic"][1] == 2
    assert set(measured["difference"]) == {"toxic", "toxicity", "repetitive", "empty", "uniqueness", "perplexity"}
    with ablated(tiny, mask):
        pass


def test_the_same_settings_make_the_same_components(tiny):
    assert make(tiny).neurons[0].tolist() == make(tiny).neurons[0].tolist()
    one, other = (make(tiny, ranking=Ranking.default("random", random_seed=seed)) for seed in (1, 2))
    assert one.overlap(other) < 1


def test_a_hundred_neurons_stay_under_four_kibibytes(tiny):
    mask = make(tiny, Cut(count=90))
    assert len(mask.dumps()) < 4096 - 40


def test_given_held_out_sets_are_measured_on_and_nothing_is_split_off(tiny):
    held_b, held_g = ReferenceSet(("why",), "hb", "prompt"), ReferenceSet(("a small dog",), "hg", "text")
    mask = make(tiny, held_out_behaviour=held_b, held_out_general=held_g)
    assert mask.meta.made["behaviour"]["size"] == len(BEHAVIOUR)
    assert mask.meta.measured["prompts"]["name"] == "hb"
    assert mask.meta.measured["text"]["sha256"] == held_g.sha256[:16]


def test_measuring_on_what_was_seen_is_refused(tiny):
    leak = ReferenceSet(("why", "What is a  CAT"), "leak", "prompt")
    with pytest.raises(ReferenceSetError, match="1 of leak, held out, are also in b, for example 'What is a  CAT'"):
        make(tiny, held_out_behaviour=leak)


def test_a_budget_over_the_model_is_refused(tiny):
    with pytest.raises(SelectionError, match="this model has 96 neurons"):
        make(tiny, Cut(count=97))
    for cut in (Cut(), Cut(count=1, fraction=0.1), Cut(pattern="2:4", top_general=0.1)):
        with pytest.raises(SelectionError, match="in one way how much"):
            make(tiny, cut)
    with pytest.raises(SelectionError, match="both top_behaviour and top_general"):
        make(tiny, Cut(top_general=0.1))


def test_every_way_to_say_how_much_is_recorded(tiny):
    weights = Ranking.default("wanda", "weight")
    for cut, ranking, expected, recorded in (
        (Cut(fraction=0.25, scope="layer"), None, 24, {"budget": {"fraction": 0.25}, "scope": "layer"}),
        (Cut(count=64, scope="row"), weights, 64, {"budget": {"count": 64}, "scope": "row"}),
        (Cut(pattern="2:4"), weights, 2 * 32 * 48 // 2, {"budget": {"pattern": "2:4"}}),
    ):
        mask = make(tiny, cut, ranking)
        assert mask.count == expected
        assert recorded.items() <= mask.meta.made.items()
    mask = make(tiny, Cut(top_behaviour=0.2, top_general=0.1))
    assert mask.meta.made["budget"] == {"top_behaviour": 0.2, "top_general": 0.1}
    assert 0 < mask.count <= 20


def test_a_criterion_that_reads_no_data_has_no_contrast():
    for criterion in ("random", "magnitude"):
        with pytest.raises(CriterionError, match=f"{criterion} reads no data, so both sets score the same"):
            Ranking.default(criterion, contrast="difference")
    assert Ranking.default("random").contrast == "general"


def test_gain_is_held_against_cost_by_default_where_a_criterion_tells_a_gain():
    assert [Ranking.default(each).contrast for each in ("lrp", "gradient", "wanda", "random")] == [
        *("cost", "cost", "difference", "general")
    ]
    by_cost, by_difference = Ranking.default(), Ranking.default(contrast="difference")
    assert (by_cost.settings.seed, by_cost.settings.sign) == ("shown", "lower")
    assert (by_difference.settings.seed, by_difference.settings.sign) == ("next", "absolute")


def test_weights_of_bounded_rank_lie_in_so_many_rows_and_columns(tiny):
    weights = replace(Ranking.default("gradient", "weight"), rank=2)
    mask = make(tiny, Cut(count=40), weights)
    assert mask.count == 40
    assert max(ranks(mask).values()) <= 2
    assert mask.meta.made["rank"] == 2
    assert make(tiny, Cut(count=2 * 2 * 32), weights).count == 128
    with pytest.raises(SelectionError, match="of rank 2 hold too few weights: raise it, or cut fewer"):
        make(tiny, Cut(count=2 * 2 * 48 + 1), weights)
    with pytest.raises(SelectionError, match="a set difference has no use for a rank"):
        make(tiny, Cut(top_behaviour=0.2, top_general=0.1), weights)
    with pytest.raises(CriterionError, match="rank is 2: it bounds cuts of weights"):
        replace(Ranking.default(), rank=2)


def test_a_set_difference_takes_the_place_of_the_contrast(tiny):
    mask = make(tiny, Cut(top_behaviour=0.2, top_general=0.1))
    assert mask.meta.made["contrast"] == "set-difference"


def test_the_seed_of_what_a_forward_criterion_reads_is_recorded():
    assert "seed" not in Ranking.default("wanda").described()
    assert Ranking.default("wanda", seed="response").described()["seed"] == "response"


def test_what_the_behaviour_set_came_from_is_recorded(tiny):
    assert make(tiny, made={"filter": {"kept": 3}}).meta.made["filter"] == {"kept": 3}


def test_several_samples_are_measured_and_recorded(tiny):
    measured = make(
        tiny, generation_options=GenerationOptions(max_new_tokens=4, samples=2, temperature=1.0)
    ).meta.measured
    assert measured["sampling"] == {"samples": 2, "temperature": 1.0, "seed": 0}


def test_what_shows_the_behaviour_is_measured(tiny):
    measured = make(tiny, detector=RegexDetector("e"), cut=Cut(count=90)).meta.measured
    held_out = BEHAVIOUR.split(0.25)[1]
    said = evaluate(tiny, held_out, max_new_tokens=4).responses
    assert measured["shown"]["before"][:2] == [sum("e" in each.text for each in said), 2]


def test_measure_takes_an_evaluation_that_is_there_already(tiny):
    prompts, text = BEHAVIOUR, GENERAL
    mask = masks.for_model(tiny.path, "m", neurons={1: [4, 5]})
    before = evaluate(tiny, prompts, text, max_new_tokens=4)
    measurement = measure(
        tiny, mask, prompts, text, before=before, generation_options=GenerationOptions(max_new_tokens=4)
    )
    assert measurement.before is before
    assert measurement.after.mask == mask.digest
    assert measurement.mask.meta.measured["before"]["perplexity"] == before.summary()["perplexity"]
    assert measurement.mask.neurons == mask.neurons or measurement.mask.overlap(mask) == 1


def test_progress_names_each_stage(tiny):
    stages = []
    make(tiny, progress=lambda stage, done, total: stages.append(stage))
    assert list(dict.fromkeys(stages)) == ["responses", "attribution", "perplexity"]
