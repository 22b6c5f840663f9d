"""Where relevance starts from: weights of tokens, and margins."""

import pytest
import torch

from correction.attribution.criteria import Settings
from correction.attribution.criteria.output_seeds import Sample, gather_logits, logit_margin, seeded_batches
from tests.correction.attribution.criteria.test_criteria import close, inputs_of
from tests.correction.conftest import scores_of


def test_tokens_that_weigh_nothing_are_left_out():
    samples = [Sample((1, 2), (5, 6, 7), weights=(0.0, 0.75, 0.25)), Sample((3,), (8, 9))]
    (batch,) = seeded_batches(samples, "shown")
    seeds = sorted(zip(batch.tokens.tolist(), batch.positions.tolist(), batch.weights.tolist(), strict=True))
    assert seeds == [(6, 2, 0.75), (7, 3, 0.25), (8, 0, 0.5), (9, 1, 0.5)]
    assert batch.margins
    assert batch.batch.input_ids.shape == (2, 4)


def test_a_sample_that_weighs_nothing_at_all_adds_nothing(tiny):
    nothing, something = Sample((1, 8, 17), (9, 4), weights=(0.0, 0.0)), Sample((1, 14, 6), (25,))
    (batch,) = seeded_batches([nothing], "shown")
    assert (batch.tokens.tolist(), batch.weights.tolist()) == ([9], [0.0])
    assert batch.output(tiny).item() == 0
    asked = Settings(seed="shown", sign="signed")
    both, one = (scores_of(tiny, "gradient", each, asked) for each in ([nothing, something], [something]))
    for name, score in one.scores.items():
        close(both.scores[name], score / 2)


def test_weights_are_of_responses_alone():
    for seed in ("next", "last", "all"):
        (batch,) = seeded_batches([Sample((1, 2), (5,), weights=(0.25,))], seed)
        assert batch.weights.sum() == 1
        assert not batch.margins


def test_a_margin_is_a_logit_less_the_largest_other_one():
    torch.manual_seed(0)
    logits = torch.randn(20, 7)
    logits[3] = 1.0  # all alike
    tokens = torch.randint(0, 7, (20,))
    expected = []
    for row, token in zip(logits.tolist(), tokens.tolist(), strict=True):
        expected.append(row[token] - max(value for place, value in enumerate(row) if place != token))
    assert logit_margin(logits, tokens).tolist() == pytest.approx(expected)
    assert ((logit_margin(logits, tokens) > 0) == (logits.argmax(-1) == tokens))[torch.arange(20) != 3].all()
    assert gather_logits(logits, tokens).tolist() == [row[token] for row, token in zip(logits, tokens, strict=True)]


def test_what_is_shown_is_the_weighted_sum_of_margins(tiny):
    sample = Sample((1, 8, 17), (9, 4, 30), weights=(0.5, 0.0, 0.5))
    (batch,) = seeded_batches([sample], "shown")
    _, logits = inputs_of(tiny, [1, 8, 17, 9, 4])
    places, tokens = torch.tensor([2, 4]), torch.tensor([9, 30])
    assert batch.output(tiny).item() == pytest.approx(logit_margin(logits[places], tokens).mean().item(), rel=1e-5)
