"""Experiments as values: what may be one, its shares, and the states it goes through."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from service.errors import ConflictError, InvalidRequestError
from service.experiments.experiment import (
    LEAST_SHARE,
    MOST_EPOCHS,
    Experiment,
    Guardrail,
    Step,
    Variant,
    begin,
    guarded,
    next_step,
    paused,
    resumed,
    reweighted,
    stopped,
)
from service.routing.assignment import assign

ARMS = (Variant("control", "base", 3.0), Variant("one", "detox@1", 1.0), Variant("two", "detox@2", 1.0))
SHADOW = Variant("shadow", "detox@3", mirror=0.5)
RAMP = (Step(0.01, 60, 100), Step(0.1, 60, 100), Step(0.5))


def made(*variants, control="control", **settings):
    return begin(Experiment("ab", variants or ARMS, control, **settings), 100.0)


def test_an_experiment_begins_with_the_shares_of_its_weights():
    experiment = made()
    assert experiment.shares == ({"control": 0.6, "one": 0.2, "two": 0.2},)
    assert (experiment.epoch, experiment.status, experiment.revision) == (0, "running", 1)
    assert (experiment.created_at, experiment.step_since) == (100.0, 100.0)


def test_experiments_are_split_independently_of_each_other():
    assert made().salt != made().salt


def test_a_ramp_begins_small_and_keeps_the_proportion_among_the_others():
    experiment = made(*ARMS[:2], replace(ARMS[2], weight=3.0), ramp=RAMP)
    assert experiment.shares[-1] == pytest.approx({"control": 0.99, "one": 0.0025, "two": 0.0075})
    stepped = next_step(experiment, 200.0)
    assert stepped.shares[-1] == pytest.approx({"control": 0.9, "one": 0.025, "two": 0.075})
    assert (stepped.step, stepped.epoch, stepped.step_since) == (1, 1, 200.0)
    assert stepped.shares[0] == experiment.shares[0]


@pytest.mark.parametrize("weights", [(95, 5), (1e9, 2000.0), (1e-9, 1e-9), (5e-324, 5e-324), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize("ramp", [(), RAMP])
def test_shares_add_up_to_one(weights, ramp):
    variants = [Variant(f"v{number}", "base", weight) for number, weight in enumerate(weights)]
    experiment = made(*variants, control="v0", ramp=ramp)
    for _ in ramp[1:]:
        experiment = next_step(experiment, 0.0)
    for shares in experiment.shares:
        assert sum(shares.values()) == pytest.approx(1.0, abs=1e-12)
        assert min(shares.values()) >= LEAST_SHARE


@pytest.mark.parametrize(
    ("settings", "says", "param"),
    [
        ({"variants": (ARMS[0], ARMS[1], ARMS[1])}, "same name", "variants"),
        ({"variants": ARMS[:1]}, "two variants", "variants"),
        ({"control": "nobody"}, "'nobody' is none of the variants", "control"),
        ({"control": "shadow", "variants": (*ARMS, SHADOW)}, "'shadow' is none of the variants", "control"),
        ({"variants": (*ARMS, replace(SHADOW, weight=1.0))}, "never shown", "weight"),
        ({"variants": (*ARMS, Variant("idle", "base"))}, "neither a weight nor a share", "weight"),
        ({"variants": (*ARMS, SHADOW, replace(SHADOW, name="other", mirror=0.6))}, "more than 1", "mirror"),
        ({"guardrails": (Guardrail("toxicity", margin=1.0),)}, "more than every rate", "margin"),
        ({"ramp": (Step(0.1), Step(0.1))}, "rising", "ramp"),
        ({"ramp": (Step(0.5), Step(0.1))}, "rising", "ramp"),
        ({"ramp": RAMP, "variants": (ARMS[0], SHADOW)}, "beside the control", "ramp"),
        ({"variants": (Variant("control", "base", 1e9), Variant("one", "base", 1e-9))}, "at least 1e-06", "weight"),
        ({"ramp": (Step(1e-9),)}, "at least 1e-06", "weight"),
        ({"ramp": (Step(0.1), Step(1 - 1e-9))}, "at least 1e-06", "weight"),
        (
            {"ramp": RAMP, "variants": (*ARMS[:2], Variant("two", "base", 1e-320))},
            "'two' would get .* at least 1e-06",
            "weight",
        ),
    ],
)
def test_what_is_no_experiment_is_refused_with_what_to_mend(settings, says, param):
    with pytest.raises(InvalidRequestError, match=says) as caught:
        begin(replace(Experiment("ab", ARMS, "control"), **settings), 0.0)
    assert (caught.value.param, caught.value.code) == (param, "invalid_experiment")


@pytest.mark.parametrize("mirrors", [[0.1] * 10, [0.3, 0.6, 0.1], [0.7, 0.2, 0.1], [1 / 3] * 3])
def test_mirrored_shares_may_add_up_to_one(mirrors):
    made(*ARMS, *(Variant(f"m{number}", "base", mirror=share) for number, share in enumerate(mirrors)))


def test_a_margin_of_latency_may_be_over_one():
    assert made(guardrails=(Guardrail("latency_p95", margin=2.0), Guardrail("length", "decrease", 1.5)))


def test_weights_that_are_not_named_stay_and_a_new_epoch_begins():
    changed = reweighted(made(), {"one": 6.0}, 7.0)
    assert changed.shares == ({"control": 0.6, "one": 0.2, "two": 0.2}, {"control": 0.3, "one": 0.6, "two": 0.1})
    assert (changed.epoch, changed.step_since) == (1, 7.0)


def test_more_weight_for_one_moves_no_unit_between_the_others():
    before = made()
    after = reweighted(before, {"one": 2.0}, 0.0)
    moved = [
        (assign(before, key).name, assign(after, key).name)
        for key in map(str, range(2000))
        if assign(before, key).name != assign(after, key).name
    ]
    assert 50 < len(moved) < 500
    assert {to for _, to in moved} == {"one"}


def test_an_operator_who_changes_weights_ends_the_ramp():
    changed = reweighted(next_step(made(ramp=RAMP), 0.0), {"one": 1.0}, 5.0)
    assert (changed.ramp, changed.step, changed.epoch) == ((), 0, 2)
    assert changed.shares[-1] == {"control": 0.6, "one": 0.2, "two": 0.2}


@pytest.mark.parametrize(
    ("weights", "says"),
    [({"nobody": 1.0}, "nobody"), ({"shadow": 1.0}, "shadow"), ({"one": 0.0}, "over 0"), ({"one": 1e9}, "at least")],
)
def test_weights_that_cannot_be_are_refused(weights, says):
    with pytest.raises(InvalidRequestError, match=says):
        reweighted(made(*ARMS, SHADOW), weights, 0.0)


def test_pausing_keeps_the_epoch_and_resuming_begins_one():
    experiment = made(ramp=RAMP)
    rested = paused(experiment)
    assert (rested.status, rested.epoch, rested.fallback) == ("paused", 0, "base")
    again = resumed(rested, 50.0)
    assert (again.status, again.epoch, again.step_since) == ("running", 1, 50.0)
    assert again.shares[0] == again.shares[1]
    assert resumed(again, 60.0) == again


def test_one_that_is_stopped_stays_so():
    over = stopped(made(), "enough", "two")
    assert (over.status, over.reason, over.fallback) == ("stopped", "enough", "detox@2")
    assert stopped(made(), "enough").fallback == "base"
    for change in (paused, lambda e: resumed(e, 0.0), lambda e: stopped(e, "again"), lambda e: guarded(e, ())):
        with pytest.raises(ConflictError, match=r"was stopped \(enough\)"):
            change(over)
    with pytest.raises(ConflictError):
        reweighted(over, {"one": 1.0}, 0.0)


def test_the_winner_is_one_of_the_variants():
    with pytest.raises(InvalidRequestError, match="none of the variants"):
        stopped(made(), "enough", "nobody")
    assert stopped(made(*ARMS, SHADOW), "enough", "shadow").fallback == "detox@3"


def test_guardrails_are_replaced_and_checked():
    guardrails = (Guardrail("repetition", margin=0.02),)
    assert guarded(made(), guardrails).guardrails == guardrails
    with pytest.raises(InvalidRequestError):
        guarded(made(), (Guardrail("error", margin=5.0),))


def test_it_comes_back_from_json_as_it_was():
    experiment = made(*ARMS, SHADOW, ramp=RAMP, guardrails=(Guardrail("length", "decrease", 0.3),), unit="request")
    experiment = stopped(next_step(resumed(paused(experiment), 1 / 3), 2 / 3), "é \u2028", "one")
    assert Experiment.of(json.loads(json.dumps(experiment.document()))) == experiment


def test_a_last_step_to_everybody_makes_the_variant_the_winner():
    ramp = (Step(0.05), Step(1.0))
    over = next_step(made(*ARMS[:2], ramp=ramp), 200.0)
    assert (over.status, over.winner, over.fallback) == ("stopped", "one", "detox@1")


@pytest.mark.parametrize(
    ("arms", "ramp"), [(ARMS, (Step(0.05), Step(1.0))), (ARMS[:2], (Step(1.0),)), (ARMS[:2], (Step(1.0), Step(0.5)))]
)
def test_a_step_to_everybody_needs_a_step_before_it_and_one_variant(arms, ramp):
    with pytest.raises(InvalidRequestError):
        made(*arms, ramp=ramp)


def test_no_weights_are_no_change():
    with pytest.raises(InvalidRequestError, match="no weights"):
        reweighted(made(), {}, 200.0)


def test_the_number_of_epochs_is_bounded_and_an_experiment_can_still_be_paused_and_go_on():
    one = made()
    for _ in range(3 * MOST_EPOCHS):
        one = resumed(paused(one), 1.0)
    assert len(one.shares) == MOST_EPOCHS // 2 and one.status == "running"
    while len(one.shares) < MOST_EPOCHS:
        one = reweighted(one, {"one": 2.0}, 1.0)
    with pytest.raises(ConflictError, match="64 periods"):
        reweighted(one, {"one": 3.0}, 1.0)
    assert stopped(one, "over").status == "stopped"
