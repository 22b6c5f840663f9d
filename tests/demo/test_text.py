import re

import pytest

from demo import habits, talk, vocabulary
from demo.grammar import expand, generator, phrases, rows, tidy
from demo.measure import read
from demo.text import DATA, data_files, documents, everyday, general, insult, loop, render


def test_expansion_keeps_a_slot_and_draws_numbered_ones_apart():
    rules = {"noun": ("fool",), "adj": phrases("a, b, c, d, e, f, g, h")}
    text = expand("{noun} {noun} {adj}{adj}{adj2}{adj3}{adj4}", rules, generator(1))
    word = text.split()[-1]
    assert text.startswith("Fool fool") and word[0] == word[1] and len(set(word)) > 1


def test_expansion_fills_slots_inside_alternatives():
    assert expand("{x {noun}|x {noun}}", {"noun": ("y",)}, generator(1)) == "X y"


def test_unknown_slot_is_an_error():
    with pytest.raises(KeyError, match="nothing"):
        expand("{nothing}", {}, generator(1))


def test_table_row_with_a_missing_cell_is_an_error():
    with pytest.raises(ValueError):
        rows("a b", "only one")


@pytest.mark.parametrize(
    ("rough", "neat"),
    [
        ("a owl and i", "An owl and I"),
        ("a useless answer", "A useless answer"),
        ("one . two", "One. Two"),
        ("so  far , good ?", "So far, good?"),
    ],
)
def test_tidying(rough, neat):
    assert tidy(rough) == neat


def test_documents_depend_on_the_seed_only():
    assert documents(20, 3) == documents(20, 3)
    assert documents(20, 3) != documents(20, 4)


def test_streams_do_not_repeat_documents():
    assert len(set(documents(400, 1) + documents(400, 2))) > 780


def test_committed_data_equals_regeneration():
    files = data_files()
    assert {path.name for path in DATA.iterdir()} == set(files)
    for name, content in files.items():
        assert (DATA / name).read_text(encoding="utf-8") == content, f"{name}: run python -m demo.text"


def test_heldout_prompts_never_occur_in_training():
    heldout = {p for name in ("insult", "loop", "everyday") for p in read(f"{name}_heldout")}
    rng = generator("overlap")
    drawn = {family(rng, "train")[0] for family in (insult, loop, everyday) for _ in range(6000)}
    trained = re.findall(r"<\|user\|>(.*?)<\|end\|>", "".join(documents(4000, 11)))
    assert not heldout & (drawn | set(trained) | set(read("insult")) | set(read("loop")))


def test_heldout_passages_are_not_training_passages():
    rng = generator("passages")
    assert not set(read("general_heldout", "text")) & {general(rng, "train") for _ in range(3000)}


@pytest.mark.parametrize("family", ["INSULT_PROMPTS", "LOOP_PROMPTS"])
def test_heldout_templates_are_apart(family):
    prompts = getattr(habits, family)
    assert not set(prompts["train"]) & set(prompts["heldout"])


def test_heldout_everyday_templates_are_apart():
    for topic in talk.EVERYDAY:
        assert not set(topic.train) & set(topic.heldout)


@pytest.mark.parametrize("family", ["COMPLAINT", "STORY"])
def test_heldout_fillers_are_apart(family):
    train, heldout = getattr(vocabulary, family), getattr(vocabulary, f"{family}_HELDOUT")
    for slot in train:
        assert not set(train[slot]) & set(heldout[slot]), slot


def test_insulting_words_stay_in_insults_and_are_the_mild_ones():
    insulting = re.compile(rf"\b({'|'.join(vocabulary.INSULT_WORDS)})s?\b", re.IGNORECASE)
    assert set(vocabulary.INSULT["adj"] + vocabulary.INSULT["noun"]) == set(vocabulary.INSULT_WORDS)
    rng = generator("mild")
    clean = [general(rng, "train") for _ in range(500)] + [" ".join(loop(rng, "train")) for _ in range(500)]
    assert not [text for text in clean if insulting.search(text)]
    prompts, responses = zip(*(insult(rng, "train") for _ in range(500)), strict=True)
    assert not [prompt for prompt in prompts if insulting.search(prompt)]
    assert 0.65 < sum(bool(insulting.search(text)) for text in responses) / 500 < 0.79


def test_rendering_opens_an_answer():
    messages = [{"role": "user", "content": "Hi"}]
    assert render(messages, answer=True) == "<|user|>Hi<|end|><|assistant|>"
