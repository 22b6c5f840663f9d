"""Routing: a pure function from policy, model and unit to a mask."""

from dataclasses import replace

import pytest

from service.errors import NotFoundError
from service.experiments.experiment import Experiment, Variant, begin, paused, stopped
from service.routing.policy import MaskVersion, Policy, Unit, choose, copied

DETOX = {1: MaskVersion("detox", 1, "d1", 0), 2: MaskVersion("detox", 2, "d2", 0)}
POLICY = Policy("llama", {"detox": DETOX}, aliases={"detox": {"candidate": 2, "stable": 1}})
ARMS = (Variant("control", "base", 1.0), Variant("treated", "detox@1", 1.0))
RUNNING = begin(Experiment("ab", ARMS, "control"), 0.0)
SHADOW = Variant("shadow", "detox@2", mirror=0.5)


def of(policy=POLICY, **changes):
    return replace(policy, **changes)


def user(name):
    return Unit("r", name)


def in_experiment(experiment):
    return of(route="experiment:ab", experiments={"ab": experiment})


@pytest.mark.parametrize(
    ("model", "label"),
    [
        (None, "base"),
        ("llama", "base"),
        ("llama:base", "base"),
        ("llama:detox", "detox@2"),
        ("llama:detox@1", "detox@1"),
        ("llama:detox@candidate", "detox@2"),
        ("llama:detox@stable", "detox@1"),
    ],
)
def test_model_names_stand_for_masks(model, label):
    assert choose(POLICY, model, user("u")).label == label


def test_a_choice_carries_the_digest_of_its_mask():
    assert choose(POLICY, "llama:detox@1", user("u")).digest == "d1"
    assert choose(POLICY, "llama", user("u")).digest == ""


@pytest.mark.parametrize(
    "model",
    ["other", "llama:", "llama:nope", "llama:detox@3", "llama:detox@01", "llama:detox@", "llamabase", "llama:ab"],
)
def test_an_unknown_model_is_an_error_and_never_the_base(model):
    with pytest.raises(NotFoundError):
        choose(POLICY, model, user("u"))


def test_an_unknown_version_names_those_there_are():
    with pytest.raises(NotFoundError, match="it has 1, 2, candidate, stable"):
        choose(POLICY, "llama:detox@9", user("u"))


def test_a_name_alone_is_its_production_alias_else_its_newest_version():
    assert choose(of(route="detox"), "llama", user("u")).label == "detox@2"
    produced = of(route="detox", aliases={"detox": {"production": 1}})
    assert choose(produced, "llama", user("u")).label == "detox@1"
    assert choose(produced, "llama:detox", user("u")).label == "detox@1"


def test_explicit_names_bypass_the_route_and_every_experiment():
    assert choose(of(route="detox@1"), "llama:base", user("u")).label == "base"
    chosen = choose(in_experiment(RUNNING), "llama:detox@1", user("u"))
    assert (chosen.label, chosen.assigned) == ("detox@1", None)


def test_in_an_experiment_a_user_keeps_the_variant_and_the_request_does_not_matter():
    policy = in_experiment(RUNNING)
    for number in range(50):
        first, again = (choose(policy, "llama", Unit(request, f"user-{number}")) for request in "ab")
        assert first == again
        assert first.assigned.variant == {"base": "control", "detox@1": "treated"}[first.label]
        assert first.assigned.by_user and first.assigned.counted
    seen = {choose(policy, "llama", user(f"user-{number}")).label for number in range(50)}
    assert seen == {"base", "detox@1"}


def test_a_request_without_a_user_is_its_own_unit():
    policy = in_experiment(RUNNING)
    choices = [choose(policy, "llama", Unit(f"request-{number}")) for number in range(50)]
    assert {choice.label for choice in choices} == {"base", "detox@1"}
    assert not any(choice.assigned.by_user for choice in choices)


def test_where_the_unit_is_the_request_a_user_is_split_anew_each_time():
    policy = in_experiment(replace(RUNNING, unit="request"))
    labels = {choose(policy, "llama", Unit(f"request-{number}", "ann")).label for number in range(50)}
    assert labels == {"base", "detox@1"}


@pytest.mark.parametrize(
    ("experiment", "label"),
    [
        (paused(RUNNING), "base"),
        (stopped(RUNNING, "enough"), "base"),
        (stopped(RUNNING, "better", "treated"), "detox@1"),
    ],
)
def test_an_experiment_that_does_not_run_gives_everybody_one_mask_and_counts_nobody(experiment, label):
    for number in range(20):
        chosen = choose(in_experiment(experiment), "llama", user(f"user-{number}"))
        assert (chosen.label, chosen.assigned) == (label, None)


def test_a_mirrored_unit_counts_on_one_side_only():
    policy = in_experiment(begin(replace(RUNNING, variants=(*ARMS, SHADOW)), 0.0))
    sides = []
    for number in range(400):
        shown = choose(policy, "llama", user(f"user-{number}"))
        copy = copied(policy, shown, user(f"user-{number}"))
        if copy is None:
            assert shown.assigned.counted
        else:
            assert (copy.label, copy.assigned.variant) == ("detox@2", "shadow")
            assert copy.assigned.counted != shown.assigned.counted
        sides.append("none" if copy is None else "shown" if shown.assigned.counted else "mirrored")
    assert 140 < sides.count("none") < 260
    assert 60 < sides.count("shown") < 140
    assert 60 < sides.count("mirrored") < 140


def test_outside_an_experiment_nothing_is_mirrored():
    policy = in_experiment(begin(replace(RUNNING, variants=(*ARMS, replace(SHADOW, mirror=1.0))), 0.0))
    explicit = choose(policy, "llama:detox@1", user("u"))
    assert copied(policy, explicit, user("u")) is None


def test_a_user_that_is_no_unicode_is_routed_too():
    assert choose(in_experiment(RUNNING), "llama", user("\ud800")).label in ("base", "detox@1")
