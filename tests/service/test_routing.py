"""Routing: a pure function from policy, model and unit to a mask."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import NotFoundError
from service.routing import Policy, Share, Version, choose, pick

DETOX = (Version("detox", 1, "d1", 0), Version("detox", 2, "d2", 0))
POLICY = Policy("llama", {"detox": DETOX})


@pytest.mark.parametrize(
    ("model", "label"),
    [
        (None, "base"),
        ("llama", "base"),
        ("llama:base", "base"),
        ("llama:detox", "detox@2"),
        ("llama:detox@1", "detox@1"),
    ],
)
def test_model_names_stand_for_masks(model, label):
    assert choose(POLICY, model, "u").label == label


def test_a_choice_carries_the_digest_of_its_mask():
    assert choose(POLICY, "llama:detox@1", "u").digest == "d1"
    assert choose(POLICY, "llama", "u").digest == ""


@pytest.mark.parametrize(
    "model", ["other", "llama:", "llama:nope", "llama:detox@3", "llama:detox@01", "llama:detox@", "llamabase"]
)
def test_an_unknown_model_is_an_error_and_never_the_base(model):
    with pytest.raises(NotFoundError):
        choose(POLICY, model, "u")


def test_an_unknown_version_names_those_there_are():
    with pytest.raises(NotFoundError, match="it has 1, 2"):
        choose(POLICY, "llama:detox@9", "u")


def test_a_route_to_a_name_follows_the_newest_version():
    assert choose(Policy("llama", {"detox": DETOX}, (Share("detox"),)), "llama", "u").label == "detox@2"


def test_explicit_names_bypass_the_route():
    policy = Policy("llama", {"detox": DETOX}, (Share("detox@1"),))
    assert choose(policy, "llama:base", "u").label == "base"


@given(st.text(), st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
def test_the_same_unit_always_gets_the_same_arm(unit, weights):
    route = tuple(Share(f"m{i}", w) for i, w in enumerate(weights))
    assert pick(route, unit) == pick(route, unit) in {share.target for share in route}


def test_a_unit_that_is_no_unicode_is_routed_too():
    assert pick((Share("base"),), "\ud800") == "base"


def test_a_split_is_accurate_within_three_standard_errors():
    n, p = 100_000, 0.05
    counts = Counter(pick((Share("base", 0.95), Share("detox@1", p)), f"user-{i}") for i in range(n))
    assert abs(counts["detox@1"] / n - p) < 3 * (p * (1 - p) / n) ** 0.5
