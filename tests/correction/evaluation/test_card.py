import numpy as np
import pytest
import torch

import masks
from correction.ablation import ablated
from correction.data.references import ReferenceSet
from correction.errors import EvaluationError
from correction.evaluation import Baseline, CardOptions, Margins, card, evaluate
from correction.evaluation.card import relative_increase
from correction.evaluation.copying import random_copies
from correction.evaluation.perplexity import perplexity

PROMPTS = ReferenceSet(("who are you", "tell me about the sea", "why", "what is a key"), "p", "prompt")
TEXTS = ReferenceSet(("the cat sees a dog", "a", "the old ship finds the new key under the tree"), "t", "text")


@pytest.fixture
def mask(tiny):
    return masks.for_model(tiny.path, "m", neurons={0: range(20), 1: [3, 5]})


def test_every_figure_is_that_of_its_own_measurement(tiny, mask):
    reading = CardOptions(max_new_tokens=6, copies=7, copy_length=5)
    made = card(tiny, mask, {"one": TEXTS, "two": PROMPTS}, PROMPTS, reading=reading)
    statements = {each.measure: each for each in made.statements}
    assert list(statements) == [
        *("one: perplexity", "one: KL, nats a token", "one: top-1 agreement"),
        *("two: perplexity", "two: KL, nats a token", "two: top-1 agreement"),
        *("own answers: KL, nats a token", "own answers: top-1 agreement"),
        *("answers: tokens", "answers: uniqueness", "answers: refusals", "random copies: accuracy"),
    ]
    said = [evaluate(tiny, PROMPTS, None, mask=each, max_new_tokens=6, refusals=True) for each in (None, mask)]
    for side, each in zip(("before", "after"), (None, mask), strict=True):
        evaluated = said[each is not None]

        def figure(name, side=side):
            return getattr(statements[name], side)

        expected = evaluate(tiny, None, TEXTS, mask=each).perplexity.estimate.value
        assert figure("one: perplexity") == pytest.approx(expected, rel=1e-6)
        lengths = [len(response.tokens) for response in evaluated.responses]
        assert figure("answers: tokens") == np.mean(lengths)
        assert figure("answers: uniqueness") == pytest.approx(evaluated.repetition.mean.value)
        assert figure("answers: refusals") == evaluated.refusals.rate.value
    divergence = Baseline(tiny, TEXTS).divergence(lambda: ablated(tiny, mask))
    kl, agreement = statements["one: KL, nats a token"], statements["one: top-1 agreement"]
    assert (kl.before, kl.after, kl.difference) == (0, divergence.kl_per_token().value, divergence.kl_per_token())
    assert agreement.after == divergence.agreement_rate().value
    assert agreement.difference.value == pytest.approx(agreement.after - 1)
    assert [statements[name].items for name in ("one: perplexity", "answers: tokens", "random copies: accuracy")] == [
        2,
        4,
        7,
    ]
    assert made.summary()["mask"] == mask.digest
    assert made.summary()["statements"][0]["measure"] == "one: perplexity"
    assert made.summary()["reading"]["max_new_tokens"] == 6


def test_own_answers_are_those_of_the_base_read_after_their_prompts(tiny, mask):
    made = card(tiny, mask, {}, PROMPTS, reading=CardOptions(max_new_tokens=6, copies=1, copy_length=2))
    rows, starts = [], []
    for prompt in PROMPTS.texts:
        chat = [{"role": "user", "content": prompt}]
        ids = tiny.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        reply = tiny.model.generate(
            torch.tensor([ids]), max_new_tokens=6, do_sample=False, attention_mask=torch.ones(1, len(ids))
        )[0].tolist()[len(ids) :]
        reply = reply[: reply.index(2)] if 2 in reply else reply
        if reply:
            rows.append([*ids, *reply])
            starts.append(len(ids))
    expected = Baseline(tiny, rows, starts=starts).divergence(lambda: ablated(tiny, mask))
    assert made.statements[0].after == pytest.approx(expected.kl_per_token().value, rel=1e-5)
    assert made.statements[1].after == expected.agreement_rate().value
    assert made.statements[0].items == len(rows)


def test_a_mask_that_cuts_almost_nothing_is_not_worse_and_one_that_cuts_a_layer_is(tiny):
    many = ReferenceSet(TEXTS.texts * 20, "t", "text")
    reading = CardOptions(max_new_tokens=4, copies=20, copy_length=10)
    harmless = masks.for_model(tiny.path, "m", neurons={1: [int(_smallest(tiny))]})
    fine = card(tiny, harmless, {"t": many}, None, reading=reading, margins=Margins(kl=1, agreement=1, perplexity=9))
    assert {each.not_worse for each in fine.statements[:3]} == {"yes"}
    whole = masks.for_model(tiny.path, "m", neurons={0: range(48), 1: range(48)})
    broken = {each.measure: each for each in card(tiny, whole, {"t": many}, None, reading=reading).statements}
    assert broken["t: KL, nats a token"].not_worse == "no"
    assert broken["t: top-1 agreement"].not_worse == "no"


def _smallest(tiny):
    return tiny.blocks[1].down_proj.weight.norm(dim=0).argmin()


def test_joined_texts_are_read_in_windows_and_a_limit_leaves_the_first_ones(tiny, mask):
    def first(reading):
        made = card(tiny, mask, {"t": TEXTS}, None, reading=reading)
        return made.statements[0]

    joined = first(CardOptions("joined", window=5, copy_length=4))
    expected = perplexity(tiny, TEXTS, protocol="joined", window=5)
    assert joined.before == pytest.approx(expected.estimate.value, rel=1e-6)
    assert joined.items == len(expected.losses)
    assert first(CardOptions("joined", window=5, limit=2, copy_length=4)).items == 2
    limited = first(CardOptions(limit=1, copy_length=4))
    assert limited.before == pytest.approx(perplexity(tiny, TEXTS.taken([0])).estimate.value, rel=1e-6)


def test_random_copies_come_twice_and_are_scored_from_the_second_token_of_the_copy_on(tiny):
    sequences, starts = random_copies(tiny, count=4, length=6, seed=1)
    opening = tiny.tokenizer("")["input_ids"]
    for sequence, start in zip(sequences, starts, strict=True):
        body = sequence[len(opening) :]
        assert body[:6] == body[6:]
        assert not set(body) & set(tiny.tokenizer.all_special_ids)
        assert start == len(opening) + 7
    assert Baseline(tiny, sequences, starts=starts).tokens.tolist() == [5, 5, 5, 5]
    assert random_copies(tiny, 4, 6, seed=1) == (sequences, starts)
    assert random_copies(tiny, 4, 6, seed=2) != (sequences, starts)
    for count, length in ((0, 5), (1, 1), (1, 33)):
        with pytest.raises(EvaluationError, match="fit the context twice"):
            random_copies(tiny, count, length)


def test_copying_is_how_often_the_most_likely_token_is_the_one_that_comes_again(tiny, mask):
    sequences, starts = random_copies(tiny, count=5, length=6)
    hits = []
    for sequence, start in zip(sequences, starts, strict=True):
        with torch.no_grad():
            best = tiny.model(torch.tensor([sequence])).logits[0].argmax(-1).tolist()
        hits += [best[place - 1] == sequence[place] for place in range(start, len(sequence))]
    statements = card(tiny, mask, {}, None, reading=CardOptions(copies=5, copy_length=6)).statements
    assert [each.measure for each in statements] == ["random copies: accuracy"]
    assert statements[0].before == np.mean(hits)


def test_length_is_compared_by_the_means():
    before, after = np.array([10.0, 30.0]), np.array([20.0, 24.0])
    assert relative_increase(before, after) == pytest.approx(44 / 40 - 1)
    assert relative_increase(np.zeros(2), np.ones(2)) == 2
