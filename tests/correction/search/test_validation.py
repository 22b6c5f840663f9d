"""What a correction may cost, and how much of it a cut spends."""

from dataclasses import replace
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest

from behaviours import is_repetitive
from correction import models
from correction.ablation import ablated
from correction.correct import build_mask
from correction.data import references
from correction.data.detectors import RegexDetector
from correction.errors import SelectionError
from correction.evaluation.evaluate import evaluate
from correction.options import GenerationOptions
from correction.search.trials import Trial
from correction.search.validation import Budget, Validation
from stats.estimates import Estimate
from tests.correction.conftest import WORDS


def test_what_is_spent_is_told_by_the_upper_limit_and_the_larger_part():
    increase = Estimate(0.002, -0.001, 0.005)
    assert Budget(0.01).spent(increase, 99.0) == pytest.approx(0.5)
    assert Budget(0.01, kl=0.02).spent(increase, 0.03) == pytest.approx(1.5)
    assert Budget(0.01, kl=0.02).spent(increase, 0.001) == pytest.approx(0.5)
    assert Budget(0.01).spent(Estimate(-0.02, -0.03, -0.01), 0.0) == 0.0  # a gain is no credit
    assert Budget(0.01).spent(Estimate(0.1, 0.1, inf), 0.0) == inf


def test_what_is_not_a_number_is_too_much():
    broken, fine = Estimate(nan, nan, nan), Estimate(0, 0, 0)
    assert Budget(0.01).spent(broken, 0.0) == inf
    assert Budget(0.01, kl=0.1).spent(broken, 0.0) == inf
    assert Budget(0.01, kl=0.1).spent(fine, nan) == inf
    assert Budget(0.01, kl=0.1).spent(fine, None) == inf
    assert Budget(0.01).spent(fine, None) == 0


def test_a_share_is_of_both():
    assert Budget(0.01, 0.02, 0.9).share(0.5) == Budget(0.005, 0.01, 0.9)
    assert Budget(0.01).share(0.5) == Budget(0.005)


@pytest.mark.parametrize(
    ("increase", "kl", "said"),
    [(0, None, "increase of perplexity is 0"), (nan, None, "perplexity is nan"), (0.01, -1, "KL is -1")],
)
def test_a_budget_must_be_over_nothing(increase, kl, said):
    with pytest.raises(SelectionError, match=rf"{said}; it must be over 0, as 0\.01 for 1%"):
        Budget(increase, kl)


def test_a_budget_says_what_it_is():
    assert str(Budget(0.015)) == "1.50% more perplexity"
    assert str(Budget(0.01, 0.05)) == "1.00% more perplexity and 0.05 nats a token of KL"


@pytest.mark.parametrize(("low", "allowed"), [(-0.01, True), (0.0, True), (0.001, False)])
def test_a_trial_that_makes_responses_repetitive_is_not_allowed_whatever_it_costs(low, allowed):
    nothing = Estimate(0.0, 0.0, 0.0)
    assert Budget(0.01).allows(Trial("x", 1, 0.0, nothing, 0.0, {}, Estimate(0.02, low, 0.05))) is allowed
    assert not Budget(0.01).allows(Trial("x", 1, 0.0, Estimate(0.1, 0.1, 0.1), 0.0, {}, Estimate(-0.5, -0.6, -0.4)))


def test_responses_that_a_cut_makes_repetitive_are_counted():
    folder = Path(__file__).parents[3] / "demo"
    loaded = models.load(folder / "model")
    prompts = references.read(folder / "data" / "everyday_heldout.jsonl", kind="prompt").taken(range(40))
    text = references.read(folder / "data" / "general_heldout.jsonl", kind="text").taken(range(20))
    options = GenerationOptions(max_new_tokens=24)
    cut = {f"neurons.{layer}": np.arange(512) for layer in range(1, 6)}
    detector = RegexDetector("nothing")
    over = Validation(loaded, prompts, text, detector, options, Budget(0.01)).tried("half", 1, cut)
    assert (over.behaviour_rate, over.described()["shown"]) == (inf, None)  # nobody was asked
    trial = Validation(loaded, prompts, text, detector, options, Budget(1e9)).tried("half", 1, cut)
    assert trial.behaviour_rate == 0
    with ablated(loaded, build_mask(loaded, cut, name="half", made={})):
        after = evaluate(loaded, prompts, **options.as_arguments()).responses
    before = evaluate(loaded, prompts, **options.as_arguments()).responses
    shares = [np.mean([is_repetitive(each.tokens) for each in responses]) for responses in (before, after)]
    assert shares[1] > shares[0] + 0.1
    assert trial.repetitive.value == pytest.approx(shares[1] - shares[0])
    assert trial.repetitive.low > 0 and not Budget(1e9).allows(trial)


def test_responses_that_a_cut_makes_empty_are_counted_too(tiny, monkeypatch):
    from correction.search import validation

    prompts = references.ReferenceSet(tuple(f"what is a {each}" for each in WORDS[:24]), "p", "prompt")
    text = references.ReferenceSet(("the cat sees the old red lamp",) * 4, "t", "text")
    options = GenerationOptions(max_new_tokens=3)
    validated = Validation(tiny, prompts, text, RegexDetector("nothing"), options, Budget(1e9))

    def silent(*given, **options):
        answered = answer(*given, **options)
        half = len(answered.responses) // 2
        mute = tuple(replace(each, text="", tokens=()) for each in answered.responses[:half])
        return replace(answered, responses=(*mute, *answered.responses[half:]))

    answer = validation.answer
    monkeypatch.setattr(validation, "answer", silent)
    trial = validated.tried("half of them", 1, {"neurons.0": np.arange(2)})
    assert trial.repetitive.value == 0.5
    assert not Budget(1e9).allows(trial)
