"""Assignment: an exact split by hash that moves nobody it need not."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.experiments.experiment import Experiment, Variant, begin, reweighted
from service.routing.assignment import assign, mirrored, shown_counts, uniform

GOLDEN = ["v2", "v0", "v2", "v2", "v1", "v1", "v2", "v2", "v0", "v0", "v0", "v1"]
UNITS = [f"user:{number}" for number in range(100_000)]


def experiment(*weights, salt="s", **changes):
    arms = tuple(Variant(f"v{number}", "base", weight) for number, weight in enumerate(weights))
    return begin(Experiment("ab", arms, "v0", salt=salt, **changes), 0.0)


def split(of, units=UNITS):
    return {unit: assign(of, unit).name for unit in units}


@pytest.mark.parametrize("weights", [(0.95, 0.05), (1, 1), (0.99, 0.01), (60, 35, 5)])
def test_the_split_is_exact_within_three_standard_errors(weights):
    counts = Counter(split(experiment(*weights)).values())
    for number, weight in enumerate(weights):
        share = weight / sum(weights)
        assert abs(counts[f"v{number}"] / len(UNITS) - share) < 3 * (share * (1 - share) / len(UNITS)) ** 0.5


def test_more_weight_moves_units_to_that_variant_and_none_between_the_others():
    before = experiment(60, 35, 5)
    after = reweighted(before, {"v2": 10}, 0.0)
    moves = Counter(zip(split(before).values(), split(after).values(), strict=True))
    moved = {pair for pair in moves if pair[0] != pair[1]}
    assert moved == {("v0", "v2"), ("v1", "v2")}
    share = 10 / 105 - 5 / 100
    assert abs(sum(moves[pair] for pair in moved) / len(UNITS) - share) < 0.003


def test_fractions_that_keep_the_others_proportion_move_nobody_between_them():
    before, after = experiment(0.60, 0.35, 0.05), experiment(0.60 * 0.9 / 0.95, 0.35 * 0.9 / 0.95, 0.10)
    moved = Counter(zip(split(before).values(), split(after).values(), strict=True))
    assert {pair for pair in moved if pair[0] != pair[1]} == {("v0", "v2"), ("v1", "v2")}


def test_experiments_split_independently_of_each_other():
    one, other = split(experiment(1, 1, salt="a")), split(experiment(1, 1, salt="b"))
    together = sum(one[unit] == other[unit] for unit in UNITS) / len(UNITS)
    assert abs(together - 0.5) < 3 * 0.5 / len(UNITS) ** 0.5


def test_who_is_assigned_where_does_not_change_with_the_version_of_excise():
    of = experiment(2, 1, 1, salt="fixed")
    assert [assign(of, f"user:{number}").name for number in range(12)] == GOLDEN


@given(st.text(), st.lists(st.floats(1.0, 1e5), min_size=2, max_size=6))
def test_the_same_unit_always_gets_the_same_variant(unit, weights):
    of = experiment(*weights)
    assert assign(of, unit) == assign(of, unit)


@given(st.text(), st.text(), st.text())
def test_a_hash_is_a_number_between_zero_and_one(salt, purpose, key):
    assert 0 < uniform(salt, purpose, key) <= 1


def test_mirrored_shares_are_exact_and_each_unit_has_one_mirror_at_most():
    shadows = (Variant("a", "base", mirror=0.2), Variant("b", "base", mirror=0.1))
    of = replace(experiment(1, 1), variants=(*experiment(1, 1).variants, *shadows))
    counts = Counter(getattr(mirrored(of, unit), "name", None) for unit in UNITS)
    for name, share in (("a", 0.2), ("b", 0.1), (None, 0.7)):
        assert abs(counts[name] / len(UNITS) - share) < 3 * (share * (1 - share) / len(UNITS)) ** 0.5


def test_the_coin_is_fair_and_independent_of_split_and_mirror():
    of = replace(experiment(1, 1), variants=(*experiment(1, 1).variants, Variant("a", "base", mirror=0.5)))
    seen = Counter((assign(of, unit).name, mirrored(of, unit) is None, shown_counts(of, unit)) for unit in UNITS)
    for count in seen.values():
        assert abs(count / len(UNITS) - 1 / 8) < 4 * (1 / 8 * 7 / 8 / len(UNITS)) ** 0.5
