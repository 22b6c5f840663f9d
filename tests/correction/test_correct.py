import pytest

import masks
from correction.ablation import ablated
from correction.correct import correct, measure
from correction.criteria import Settings
from correction.errors import ReferenceSetError, SelectionError
from correction.evaluation import evaluate
from correction.references import ReferenceSet

THINGS = ("cat", "dog", "sea", "key", "lamp", "book", "ship", "tree")
BEHAVIOUR = ReferenceSet(tuple(f"what is a {thing}" for thing in THINGS), "b", "prompt")
GENERAL = ReferenceSet(tuple(f"the {thing} sees the old red lamp" for thing in THINGS[:6]), "g", "text")


def make(tiny, **changes):
    return correct(tiny, BEHAVIOUR, GENERAL, **{"name": "detox", "count": 5, "max_new_tokens": 4, **changes})


@pytest.mark.parametrize(
    ("settings", "criterion"),
    [
        (Settings(), "lrp"),
        (Settings(granularity="weight", sign="absolute", seed="all", modules=("up_proj",)), "lrp"),
        (Settings(seed="response", response_tokens=3), "lrp"),
        (Settings(random_seed=7), "random"),
        (Settings(granularity="weight", random_seed=7), "random"),
    ],
)
def test_a_mask_comes_with_how_it_was_made_and_what_it_measured(tiny, tmp_path, settings, criterion):
    mask = make(tiny, settings=settings, criterion=criterion)
    masks.save(mask, tmp_path / "m.safetensors")
    mask = masks.load(tmp_path / "m.safetensors")
    kind = f"{settings.granularity}s"
    assert (mask.name, mask.counts[kind], mask.count) == ("detox", 5, 5)
    made, measured = mask.meta.made, mask.meta.measured
    assert (made["criterion"], made["granularity"]) == (criterion, settings.granularity)
    assert made["budget"] == {"count": 5}
    assert (made["behaviour"]["size"], made["general"]["size"]) == (6, 4)
    assert made["behaviour"]["sha256"] == BEHAVIOUR.split(0.25)[0].sha256
    assert set(made["versions"]) == {"excise", "torch", "transformers"}
    assert ("random_seed" in made) == (criterion == "random")
    assert ("seed" in made) == (criterion == "lrp")
    assert ("modules" in made) == (settings.granularity == "weight")
    assert (measured["prompts"]["size"], measured["text"]["size"]) == (2, 2)
    assert measured["before"]["toxic"][1] == 2
    assert set(measured["difference"]) == {"toxic", "toxicity", "repetitive", "uniqueness", "perplexity"}
    with ablated(tiny, mask):
        pass


def test_the_same_settings_make_the_same_components(tiny):
    assert make(tiny).neurons[0].tolist() == make(tiny).neurons[0].tolist()
    one, other = (make(tiny, criterion="random", settings=Settings(random_seed=seed)) for seed in (1, 2))
    assert one.overlap(other) < 1


def test_a_hundred_neurons_stay_under_four_kibibytes(tiny):
    mask = make(tiny, count=90)
    assert len(mask.dumps()) < 4096 - 40


def test_given_held_out_sets_are_measured_on_and_nothing_is_split_off(tiny):
    held_b, held_g = ReferenceSet(("why",), "hb", "prompt"), ReferenceSet(("a small dog",), "hg", "text")
    mask = make(tiny, held_out_behaviour=held_b, held_out_general=held_g)
    assert mask.meta.made["behaviour"]["size"] == len(BEHAVIOUR)
    assert mask.meta.measured["prompts"]["name"] == "hb"
    assert mask.meta.measured["text"]["sha256"] == held_g.sha256


def test_measuring_on_what_was_seen_is_refused(tiny):
    leak = ReferenceSet(("why", "What is a  CAT"), "leak", "prompt")
    with pytest.raises(ReferenceSetError, match="1 of leak, held out, are also in b, for example 'What is a  CAT'"):
        make(tiny, held_out_behaviour=leak)


def test_a_budget_over_the_model_is_refused(tiny):
    with pytest.raises(SelectionError, match="this model has 96 neurons"):
        make(tiny, count=97)
    with pytest.raises(SelectionError, match="count or a fraction"):
        make(tiny, count=None)


def test_measure_takes_an_evaluation_that_is_there_already(tiny):
    prompts, text = BEHAVIOUR, GENERAL
    mask = masks.for_model(tiny.path, "m", neurons={1: [4, 5]})
    before = evaluate(tiny, prompts, text, max_new_tokens=4)
    found = measure(tiny, mask, prompts, text, before=before, max_new_tokens=4)
    assert found.before is before
    assert found.after.mask == mask.digest
    assert found.mask.meta.measured["before"]["perplexity"] == before.summary()["perplexity"]
    assert found.mask.neurons == mask.neurons or found.mask.overlap(mask) == 1


def test_progress_names_each_stage(tiny):
    stages = []
    make(tiny, progress=lambda stage, done, total: stages.append(stage))
    assert list(dict.fromkeys(stages)) == ["attribution", "responses", "perplexity"]
