from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from correction.errors import EvaluationError
from correction.evaluation import Evaluation, Margins, Response, Statement, compare, statements
from correction.evaluation.repetition import repetition
from correction.evaluation.toxicity import toxicity
from correction.report import card
from stats.estimates import Estimate


def stated(low, high, worse, margin=0.02):
    return Statement("m", 1.0, 1.0, Estimate((low + high) / 2, low, high), worse, margin, 10)


@pytest.mark.parametrize(
    ("low", "high", "worse", "verdict"),
    [
        (-0.5, 0.01, "higher", "yes"),
        (-0.5, 0.02, "higher", "yes"),
        (-0.5, 0.03, "higher", "not shown"),
        (0.02, 0.03, "higher", "not shown"),
        (0.021, 0.03, "higher", "no"),
        (-0.01, 0.5, "lower", "yes"),
        (-0.03, 0.5, "lower", "not shown"),
        (-0.04, -0.03, "lower", "no"),
        (-0.01, 0.02, "either", "yes"),
        (-0.03, 0.01, "either", "not shown"),
        (-0.01, 0.03, "either", "not shown"),
        (-0.04, -0.03, "either", "no"),
        (0.03, 0.04, "either", "no"),
        (float("nan"), float("nan"), "higher", "not shown"),
        (0.0, float("inf"), "higher", "not shown"),
    ],
)
def test_a_figure_is_not_worse_where_its_whole_interval_is_within_the_margin(low, high, worse, verdict):
    assert stated(low, high, worse).not_worse == verdict


def test_few_items_show_nothing_however_narrow_their_interval():
    for items, verdict in ((1, "not shown"), (9, "not shown"), (10, "yes")):
        assert Statement("m", 1.0, 1.0, Estimate(0, 0, 0), "higher", 0.02, items).not_worse == verdict


def test_a_statement_as_json_values():
    statement = Statement("text: perplexity", 20.0, 21.23456, Estimate(0.0617281, 0.05, 0.07), "higher", 0.02, 90, True)
    assert statement.summary() == {
        "measure": "text: perplexity",
        "before": 20.0,
        "after": 21.23,
        "difference": [0.06173, 0.05, 0.07],
        "relative": True,
        "worse": "higher",
        "margin": 0.02,
        "items": 90,
        "not_worse": "no",
    }


def test_margins_are_read_by_name():
    assert Margins.parsed([]) == Margins()
    assert Margins.parsed(["kl=0.1", "perplexity=0"]) == Margins(kl=0.1, perplexity=0)
    for given, message in (
        ("speed=1", "there is no margin 'speed'; there is: perplexity, kl"),
        ("kl", "'kl' is not NAME=NUMBER"),
        ("kl=much", "'kl=much' is not NAME=NUMBER"),
        ("kl=-1", "margin kl is -1.0"),
        ("kl=nan", "margin kl is nan"),
    ):
        with pytest.raises(EvaluationError, match=message):
            Margins.parsed([given])


class Scored:
    """A scorer for tests: each text is its own score."""

    name, version, threshold = "scored", "1", 0.5

    def score(self, texts):
        return np.array([float(text) for text in texts])


def evaluated(scores, samples):
    texts = [str(score) for score in scores]
    prompts = len(texts) // samples
    responses = tuple(Response(f"p{n // samples}", text, (1, 2)) for n, text in enumerate(texts))
    toxic = toxicity(texts, Scored(), samples=samples)
    repeated = repetition([(1, 2)] * samples * prompts, samples=samples)
    return Evaluation(None, responses, toxic, repeated, None, 50, 0.95, None, samples, 1.0)


def test_toxicity_over_25_samples_is_that_of_realtoxicityprompts():
    """Expected maximum: mean over prompts of the highest of 25; probability: prompts with at least one from 0.5 on."""
    before = evaluated([0.1] * 24 + [0.9] + [0.5] + [0.2] * 24 + [0.4] * 25 + [0.0] * 25, 25)
    after = evaluated([0.1] * 25 + [0.5] + [0.2] * 24 + [0.3] * 25 + [0.0] * 25, 25)
    by_measure = {each.measure: each for each in statements(before, after, compare(before, after))}
    maximum, probability = by_measure["expected maximum toxicity"], by_measure["toxicity probability"]
    assert maximum.before == pytest.approx((0.9 + 0.5 + 0.4 + 0) / 4)
    assert maximum.after == pytest.approx((0.1 + 0.5 + 0.3 + 0) / 4)
    assert maximum.difference.value == pytest.approx(-0.9 / 4)
    assert (probability.before, probability.after, probability.difference.value) == (2 / 4, 1 / 4, -1 / 4)
    assert (by_measure["toxic responses"].before, by_measure["toxic responses"].after) == (2 / 100, 1 / 100)
    assert by_measure["repetitive responses"].difference.value == 0
    assert maximum.not_worse == "not shown"  # four prompts
    assert {each.items for each in by_measure.values()} == {4}


def test_one_sample_has_no_expected_maximum():
    evaluation = evaluated([0.9, 0.1], 1)
    names = [each.measure for each in statements(evaluation, evaluation, compare(evaluation, evaluation))]
    assert names == ["toxic responses", "repetitive responses"]


def test_the_table_says_every_statement():
    console = Console(width=160, file=StringIO())
    lines = [
        Statement("wiki: perplexity", 20.0, 20.2, Estimate(0.01, 0.005, 0.015), "higher", 0.02, 90, True),
        Statement("copies", 0.9, 0.8, Estimate(-0.1, -0.15, -0.05), "lower", 0.02, 50),
        Statement("answers: tokens", 40.0, 41.0, Estimate(0.025, -0.2, 0.2), "either", 0.1, 20, True),
    ]
    console.print(card(lines, "detox"))
    text = console.file.getvalue()
    assert "+1.00% [+0.50%, +1.50%]" in text
    assert "-0.100 [-0.150, -0.050]" in text
    for verdict in ("+2.00%: yes", "-0.020: no ", "±10.00%: not shown"):
        assert verdict in text
    assert "detox" in text
