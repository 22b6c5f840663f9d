import math
from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest
import torch

import masks
from correction.data.references import ReferenceSet
from correction.errors import EvaluationError
from correction.evaluation import compare, evaluate
from correction.evaluation.perplexity import increase, of_passages, perplexity
from correction.evaluation.repetition import repetition
from correction.evaluation.toxicity import toxicity
from stats.errors import StatisticsError
from stats.estimates import Estimate, bootstrap, by_prompt, mean, mean_difference, wilson

PROMPTS = ReferenceSet(("who are you", "tell me about the sea", "why", "what is a key"), "p", "prompt")
TEXTS = ReferenceSet(("the cat sees a dog", "a", "the old ship finds the new key under the tree"), "t", "text")


class Loud:
    """A scorer for tests: the share of words in a list."""

    name, version, threshold = "loud", "3", 0.5

    def score(self, texts):
        return np.array([text.split().count("bad") / max(1, len(text.split())) for text in texts])


@pytest.mark.parametrize(("count", "total"), [(0, 10), (3, 10), (10, 10), (57, 150)])
def test_wilsons_interval_is_where_the_score_test_rejects(count, total):
    rate = wilson(count, total)
    assert rate.value == count / total
    assert 0 <= rate.low <= rate.value <= rate.high <= 1
    z = NormalDist().inv_cdf(0.975)
    for limit in {rate.low, rate.high} - {0.0, 1.0}:
        assert abs(rate.value - limit) / sqrt(limit * (1 - limit) / total) == pytest.approx(z)


def test_a_bootstrap_draws_pairs_takes_percentiles_and_repeats_by_seed():
    before, after = np.random.default_rng(1).normal(size=(2, 80))
    mine = bootstrap(mean_difference, before, after, resamples=4000)
    drawn = np.random.default_rng(0).integers(80, size=(4000, 80))
    limits = np.quantile((after - before)[drawn].mean(-1), [0.025, 0.975])
    assert mine.value == pytest.approx((after - before).mean())
    assert (mine.low, mine.high) == pytest.approx(tuple(limits), abs=1e-12)
    assert mine == bootstrap(mean_difference, before, after, resamples=4000)
    assert mine != bootstrap(mean_difference, before, after, resamples=4000, seed=1)


def test_the_bootstrap_of_one_item_has_no_width():
    assert bootstrap(mean, np.array([2.0])) == Estimate(2.0, 2.0, 2.0)


def test_means_of_pairs_that_all_change_alike_have_an_interval_of_no_width():
    before = np.random.default_rng(2).normal(size=30)
    estimate = bootstrap(mean_difference, before, before + 2)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((2, 2, 2))


def test_intervals_of_nothing_are_refused():
    with pytest.raises(StatisticsError, match="no rate of 0 in 0"):
        wilson(0, 0)
    with pytest.raises(StatisticsError, match="there are 2, 3"):
        bootstrap(mean_difference, np.zeros(2), np.zeros(3))
    with pytest.raises(StatisticsError, match="there are 0"):
        bootstrap(mean, np.zeros(0))


def test_toxicity_counts_scores_at_or_over_the_threshold_and_names_its_scorer():
    measured_toxicity = toxicity(["bad", "good bad", "good", "good bad good"], Loud())
    assert (measured_toxicity.rate.count, measured_toxicity.rate.total) == (2, 4)
    assert measured_toxicity.flags.tolist() == [1, 1, 0, 0]
    assert measured_toxicity.mean.value == pytest.approx((1 + 1 / 2 + 1 / 3) / 4)
    assert (measured_toxicity.scorer, measured_toxicity.version, measured_toxicity.threshold) == ("loud", "3", 0.5)


def test_repetition_does_not_count_silence():
    measured_repetition = repetition([[1, 1, 1], [1, 2], [], [4, 4, 4, 5]])
    assert measured_repetition.ratios.tolist() == [1 / 3, 1.0, 0.0, 0.5]
    assert measured_repetition.flags.tolist() == [1, 0, 0, 0]
    assert measured_repetition.rate.count == 1
    assert measured_repetition.empty_flags.tolist() == [0, 0, 1, 0]
    assert (measured_repetition.empty.count, measured_repetition.empty.total) == (1, 4)


def by_hand(tiny, window):
    losses, counts = [], []
    for text in TEXTS.texts:
        ids = tiny.tokenizer(text)["input_ids"]
        loss, count = 0.0, 0
        for start in range(0, len(ids), window):
            part = torch.tensor([ids[start : start + window]])
            with torch.no_grad():
                logs = tiny.model(part).logits[0].double().log_softmax(-1)
            for position in range(part.shape[1] - 1):
                loss -= float(logs[position, part[0, position + 1]])
                count += 1
        losses.append(loss)
        counts.append(count)
    return losses, counts


@pytest.mark.parametrize(("window", "tokens"), [(None, 4096), (None, 1), (4, 4096), (2, 8)])
def test_perplexity_is_the_sum_of_losses_over_windows(tiny, window, tokens):
    losses, counts = by_hand(tiny, window or 64)
    measured_perplexity = perplexity(tiny, TEXTS, window=window, tokens=tokens)
    assert measured_perplexity.losses == pytest.approx(losses, rel=1e-5)
    assert measured_perplexity.tokens.tolist() == counts
    assert measured_perplexity.estimate.value == pytest.approx(math.exp(sum(losses) / sum(counts)), rel=1e-5)
    assert measured_perplexity.estimate.low <= measured_perplexity.estimate.value <= measured_perplexity.estimate.high


def test_perplexity_of_no_token_is_refused(tiny):
    with pytest.raises(EvaluationError, match="nothing to predict"):
        perplexity(tiny, ReferenceSet(("a", "sea"), "t", "text"))
    for window in (1, 65):
        with pytest.raises(EvaluationError, match=f"window is {window}"):
            perplexity(tiny, TEXTS, window=window)


def test_increase_is_that_of_the_two_perplexities():
    before, after, tokens = np.array([3.0, 5.0]), np.array([4.0, 5.5]), np.array([2.0, 7.0])
    expected = of_passages(after, tokens) / of_passages(before, tokens) - 1
    assert increase(before, after, tokens) == pytest.approx(expected)


def test_joined_perplexity_is_that_of_wanda(tiny):
    """lib/eval.py: the mean loss of each window times its length, summed, over windows times length."""
    rows = ("the cat sees a dog", "", "the old ship finds the new key under the tree", "", "why")
    ids = torch.tensor([tiny.tokenizer("\n\n".join(rows))["input_ids"]])
    windows = ids.shape[1] // 6
    parts = []
    for start in range(0, windows * 6, 6):
        part = ids[:, start : start + 6]
        with torch.no_grad():
            logits = tiny.model(part).logits[:, :-1]
        loss = torch.nn.CrossEntropyLoss()(logits.reshape(-1, logits.shape[-1]), part[:, 1:].reshape(-1))
        parts.append(loss.float() * 6)
    wanda = torch.exp(torch.stack(parts).sum() / (windows * 6)).item()
    for texts in (rows, ("\n\n".join(rows),)):
        measured_perplexity = perplexity(tiny, ReferenceSet(texts, "t", "text"), protocol="joined", window=6)
        assert measured_perplexity.estimate.value == pytest.approx(wanda, rel=1e-5)
        assert measured_perplexity.tokens.tolist() == [5.0] * windows
        assert (measured_perplexity.protocol, measured_perplexity.window) == ("joined", 6)
    assert measured_perplexity.estimate.low < measured_perplexity.estimate.value < measured_perplexity.estimate.high


def test_joined_texts_must_fill_a_window(tiny):
    with pytest.raises(EvaluationError, match="the joined texts have 16 tokens, less than one window of 64"):
        perplexity(tiny, TEXTS, protocol="joined")
    with pytest.raises(EvaluationError, match="no protocol 'wanda'; there is: passages, joined"):
        perplexity(tiny, TEXTS, protocol="wanda")


def test_toxicity_of_several_samples_counts_prompts_and_takes_the_worst():
    said = ["bad", "good", "good bad good", "good", "good", "good"]
    measured_toxicity = toxicity(said, Loud(), samples=2)
    assert (measured_toxicity.rate.count, measured_toxicity.rate.total) == (1, 6)
    assert (measured_toxicity.prompts.count, measured_toxicity.prompts.total) == (1, 3)
    assert measured_toxicity.maximum.value == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert measured_toxicity.mean.value == pytest.approx((1 + 1 / 3) / 6)
    one = toxicity(said, Loud())
    assert (one.prompts, one.maximum) == (one.rate, one.mean)
    with pytest.raises(StatisticsError, match="6 responses are not 4 to each"):
        toxicity(said, Loud(), samples=4)


def test_repetition_of_several_samples_counts_prompts():
    measured_repetition = repetition([[1, 1, 1], [2, 2, 2], [1, 2], [3]], samples=2)
    assert (measured_repetition.rate.count, measured_repetition.rate.total) == (2, 4)
    assert (measured_repetition.prompts.count, measured_repetition.prompts.total) == (1, 2)
    assert measured_repetition.mean.value == pytest.approx((1 / 3 + 1 / 3 + 1 + 1) / 4)


def test_samples_of_a_prompt_are_no_more_evidence_than_one_when_they_are_all_alike():
    flags = np.repeat([1.0] * 8 + [0.0] * 12, 10)
    scored = toxicity(["bad" if flag else "good" for flag in flags], Loud(), samples=10)
    single = bootstrap(mean, by_prompt(flags, 10)[:, 0])
    assert (scored.rate.low, scored.rate.high) == (single.low, single.high)
    assert scored.mean == single


def test_sampled_evaluation(tiny):
    mask = masks.for_model(tiny.path, "m", neurons={0: range(48)})
    options = {"scorer": Loud(), "max_new_tokens": 6, "samples": 3, "temperature": 1.5, "seed": 5, "refusals": True}
    before = evaluate(tiny, PROMPTS, TEXTS, **options)
    after = evaluate(tiny, PROMPTS, TEXTS, mask=mask, **options)
    assert [response.prompt for response in before.responses] == [p for p in PROMPTS.texts for _ in range(3)]
    assert len({response.tokens for response in before.responses[:3]}) == 3
    summary = before.summary()
    assert summary["sampling"] == {"samples": 3, "temperature": 1.5, "seed": 5}
    assert summary["toxic"][:2] == [0, 12]
    assert summary["toxic_prompts"][:2] == [0, 4]
    assert summary["refusals"][:2] == [0, 12]
    assert set(summary) >= {"maximum_toxicity", "repetitive_prompts"}
    difference = compare(before, after).summary()
    assert set(difference) == {
        *("toxic", "toxicity", "toxic_prompts", "maximum_toxicity", "repetitive", "repetitive_prompts"),
        *("empty", "uniqueness", "refusals", "perplexity"),
    }
    assert evaluate(tiny, PROMPTS, TEXTS, **options).summary() == summary
    assert evaluate(tiny, PROMPTS, TEXTS, **{**options, "seed": 6}).responses != before.responses
    with pytest.raises(EvaluationError, match="samples was 3 before and 1 after"):
        compare(before, evaluate(tiny, PROMPTS, None, scorer=Loud(), max_new_tokens=6))


def test_refusals_are_counted_and_compared_where_they_are_asked_for(tiny, monkeypatch):
    said = iter(
        ["I can't help with that.", "Here it is.", "As an AI, no.", "", "Sure.", "Fine.", "Sorry, no.", "Well."]
    )
    monkeypatch.setattr(type(tiny.tokenizer), "decode", lambda *_, **__: next(said))
    before = evaluate(tiny, PROMPTS, None, scorer=Loud(), max_new_tokens=2, refusals=True)
    after = evaluate(tiny, PROMPTS, None, scorer=Loud(), max_new_tokens=2, refusals=True)
    assert before.refusals.flags.tolist() == [1, 0, 1, 0]
    assert before.refusals.rate == wilson(2, 4)
    assert after.refusals.rate == wilson(1, 4)
    assert before.summary()["refusals"][:2] == [2, 4]
    assert compare(before, after).refusals.value == -0.25


def test_joined_perplexity_is_recorded_and_not_compared_with_another(tiny):
    joined = evaluate(tiny, None, TEXTS, perplexity_protocol="joined", window=5)
    assert set(joined.summary()) == {"perplexity", "perplexity_protocol", "window", "windows"}
    assert [joined.summary()[key] for key in ("perplexity_protocol", "window", "windows")] == ["joined", 5, 3]
    assert compare(joined, joined).perplexity.value == 0
    by_passage = evaluate(tiny, None, TEXTS, window=5)
    assert (by_passage.summary()["window"], by_passage.summary()["passages"]) == (5, 3)
    with pytest.raises(
        EvaluationError, match="joined in windows of 5 before, passages in windows of the context after"
    ):
        compare(joined, evaluate(tiny, None, TEXTS))


def test_a_greedy_summary_has_no_keys_of_sampling(tiny):
    greedy = evaluate(tiny, PROMPTS, TEXTS, scorer=Loud(), max_new_tokens=2).summary()
    assert list(greedy) == [
        *("toxic", "toxicity", "repetitive", "empty", "uniqueness"),
        *("scorer", "max_new_tokens", "perplexity", "passages"),
    ]


def test_evaluation_with_and_without_a_mask(tiny):
    mask = masks.for_model(tiny.path, "m", neurons={0: range(48)})
    options = {"scorer": Loud(), "max_new_tokens": 6}
    before = evaluate(tiny, PROMPTS, TEXTS, **options)
    after = evaluate(tiny, PROMPTS, TEXTS, mask=mask, **options)
    assert (before.mask, after.mask) == (None, mask.digest)
    assert before.perplexity.estimate.value != after.perplexity.estimate.value
    assert [response.prompt for response in before.responses] == list(PROMPTS.texts)
    response = before.responses[0]
    assert len(response.tokens) <= 6
    assert response.text == tiny.tokenizer.decode(list(response.tokens), skip_special_tokens=True)
    summary = before.summary()
    assert summary["scorer"] == {"name": "loud", "version": "3", "threshold": 0.5}
    assert summary["toxic"][:2] == [0, 4]
    assert summary["passages"] == 3
    differences = compare(before, after)
    assert differences.toxic.value == 0
    ratio = after.perplexity.estimate.value / before.perplexity.estimate.value
    assert differences.perplexity.value == pytest.approx(ratio - 1)
    assert set(differences.summary()) == {"toxic", "toxicity", "repetitive", "empty", "uniqueness", "perplexity"}
    assert evaluate(tiny, PROMPTS, TEXTS, **options).summary() == summary


def test_either_part_can_be_left_out(tiny):
    only = evaluate(tiny, None, TEXTS)
    assert (only.toxicity, only.responses, set(only.summary())) == (None, (), {"perplexity", "passages"})
    assert set(compare(only, only).summary()) == {"perplexity"}
    with pytest.raises(EvaluationError, match="nothing to measure"):
        evaluate(tiny, None, None)


def test_evaluations_of_other_things_are_not_compared(tiny):
    one = evaluate(tiny, PROMPTS, TEXTS, max_new_tokens=2)
    with pytest.raises(EvaluationError, match="different prompts"):
        compare(one, evaluate(tiny, ReferenceSet(("why",), "q", "prompt"), None, max_new_tokens=2))
    with pytest.raises(EvaluationError, match="scored differently"):
        compare(one, evaluate(tiny, PROMPTS, None, scorer=Loud(), max_new_tokens=2))
    with pytest.raises(EvaluationError, match="different texts"):
        compare(one, evaluate(tiny, None, ReferenceSet(("the cat sees",), "t", "text")))
    with pytest.raises(EvaluationError, match="max_new_tokens was 2 before and 3 after"):
        compare(one, evaluate(tiny, PROMPTS, None, scorer=Loud(), max_new_tokens=3))
