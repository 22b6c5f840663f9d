from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch

import masks
from correction.ablation import ablated
from correction.data.references import ReferenceSet
from correction.errors import EvaluationError
from correction.evaluation import divergence as module
from correction.evaluation.divergence import Baseline, Divergence, per_token
from correction.evaluation.perplexity import increase, perplexity
from correction.models import load
from stats.estimates import bootstrap
from tests.correction.conftest import save_tiny

TEXTS = ReferenceSet(("the cat sees a dog", "a", "the old ship finds the new key under the tree"), "t", "text")


def cut_of(loaded):
    mask = masks.for_model(loaded.path, "m", neurons={0: range(20), 1: [3, 5]})
    return mask, lambda: ablated(loaded, mask)


def logs_of(loaded, ids):
    with torch.no_grad():
        return loaded.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)


def by_hand(loaded, cut, sequences, starts, window=64):
    """Sums of each text in float64, position by position."""
    text_sums = []
    for ids, start in zip(sequences, starts, strict=True):
        sums = np.zeros(7)
        for begin in range(0, len(ids), window):
            part = ids[begin : begin + window]
            before = logs_of(loaded, part)
            with cut():
                after = logs_of(loaded, part)
            for position in range(1, len(part)):
                if begin + position >= start:
                    p, q, token = before[position - 1], after[position - 1], part[position]
                    kl = sum(float(p[v].exp()) * float(p[v] - q[v]) for v in range(len(p)))
                    hits = [float(p.argmax() == token), float(q.argmax() == token)]
                    sums += [kl, float(p.argmax() == q.argmax()), -float(p[token]), -float(q[token]), *hits, 1]
        text_sums.append(sums)
    return np.array(text_sums).T


def columns(found):
    names = ("kl", "agreement", "losses_before", "losses_after", "hits_before", "hits_after", "tokens")
    return np.array([getattr(found, name) for name in names])


@pytest.mark.parametrize(("window", "tokens", "keep"), [(None, 4096, True), (4, 8, True), (None, 1, False)])
def test_every_sum_is_that_of_a_slow_derivation_in_float64(tiny, monkeypatch, window, tokens, keep):
    monkeypatch.setattr(module, "_LOGITS", 100)  # two positions at a time
    _, cut = cut_of(tiny)
    sequences = [tiny.tokenizer(text)["input_ids"] for text in TEXTS.texts]
    divergence = Baseline(tiny, TEXTS, window=window, tokens=tokens, keep=keep).divergence(cut)
    expected = by_hand(tiny, cut, sequences, [1, 1, 1], window or 64)
    assert columns(divergence) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert divergence.kl[0] > 0.01
    assert divergence.tokens.dtype == np.int64


def test_only_what_follows_the_start_is_scored(tiny):
    _, cut = cut_of(tiny)
    sequences, starts = [[1, 7, 8, 9, 10, 11], [1, 20, 21], [1, 30, 31, 32]], [4, 3, 1]
    for window in (None, 3):
        divergence = Baseline(tiny, sequences, starts=starts, window=window).divergence(cut)
        assert columns(divergence) == pytest.approx(
            by_hand(tiny, cut, sequences, starts, window or 64), rel=1e-4, abs=1e-5
        )
    assert Baseline(tiny, sequences, starts=starts).tokens.tolist() == [2, 0, 3]


def test_without_a_cut_nothing_changes(tiny):
    divergence = Baseline(tiny, TEXTS).divergence(nullcontext)
    assert divergence.kl.tolist() == [0, 0, 0]
    assert divergence.agreement.tolist() == divergence.tokens.tolist()
    assert divergence.losses_before.tolist() == divergence.losses_after.tolist()
    rate = divergence.agreement_rate()
    assert (rate.value, rate.low, rate.high) == (1, 1, 1)
    assert (
        divergence.kl_per_token().value
        == divergence.hits_difference().value
        == divergence.perplexity_increase().value
        == 0
    )


def test_nothing_agrees_with_a_model_that_expects_the_opposite(tiny):
    @contextmanager
    def opposite():
        handle = tiny.model.get_output_embeddings().register_forward_hook(lambda module, inputs, output: -output)
        yield
        handle.remove()

    divergence = Baseline(tiny, TEXTS).divergence(opposite)
    assert divergence.agreement.tolist() == [0, 0, 0]
    assert (divergence.kl[divergence.tokens > 0] > 0).all()


def test_a_cut_of_the_head_itself_is_seen(tmp_path):
    tied = load(save_tiny(tmp_path / "tied", tie_word_embeddings=True), device="cpu")
    mask = masks.for_model(tied.path, "m", weights={"model.embed_tokens.weight": range(600)})
    sequences = [tied.tokenizer(text)["input_ids"] for text in TEXTS.texts]
    for keep in (True, False):
        divergence = Baseline(tied, TEXTS, keep=keep).divergence(lambda: ablated(tied, mask))
        expected = by_hand(tied, lambda: ablated(tied, mask), sequences, [1, 1, 1])
        assert columns(divergence) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("window", [None, 4])
def test_perplexity_is_that_of_the_evaluation(tiny, window):
    mask, cut = cut_of(tiny)
    divergence = Baseline(tiny, TEXTS, window=window).divergence(cut)
    before = perplexity(tiny, TEXTS, window=window)
    with ablated(tiny, mask):
        after = perplexity(tiny, TEXTS, window=window)
    assert divergence.losses_before == pytest.approx(before.losses, rel=1e-6)
    assert divergence.losses_after == pytest.approx(after.losses, rel=1e-6)
    assert divergence.tokens.tolist() == before.tokens.tolist()
    expected = bootstrap(increase, before.losses, after.losses, before.tokens)
    alone = Baseline(tiny, TEXTS, window=window).perplexity_increase(cut)
    for estimate in (divergence.perplexity_increase(), alone):
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
            (expected.value, expected.low, expected.high), rel=1e-5
        )


def test_means_are_over_positions_and_intervals_over_texts():
    divergence = Divergence(
        kl=np.array([1.0, 0.0]),
        agreement=np.array([1.0, 6.0]),
        losses_before=np.array([2.0, 8.0]),
        losses_after=np.array([4.0, 8.0]),
        hits_before=np.array([1.0, 3.0]),
        hits_after=np.array([0.0, 5.0]),
        tokens=np.array([2, 6]),
    )
    assert divergence.kl_per_token().value == 1 / 8
    assert (divergence.kl_per_token().low, divergence.kl_per_token().high) == (0, 1 / 2)
    assert divergence.agreement_rate().value == 7 / 8
    assert divergence.perplexity_increase().value == pytest.approx(np.exp(2 / 8) - 1)
    assert divergence.hits_difference().value == 1 / 8
    assert divergence.kl_per_token(seed=3) == bootstrap(
        per_token, divergence.kl, divergence.tokens.astype(float), seed=3
    )


def test_what_cannot_be_compared_is_refused(tiny):
    for window in (1, 65):
        with pytest.raises(EvaluationError, match=f"window is {window}"):
            Baseline(tiny, TEXTS, window=window)
    for starts in ([1], [1, 0, 1]):
        with pytest.raises(EvaluationError, match="3 texts need as many starts"):
            Baseline(tiny, TEXTS, starts=starts)
    for sequences in ([], [[1]], [[1, 2]]):
        with pytest.raises(EvaluationError, match="nothing to compare"):
            Baseline(tiny, sequences, starts=[2] * len(sequences))
