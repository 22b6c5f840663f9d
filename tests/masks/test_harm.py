"""A mask says what speaks against it: what was stored with it, or what follows from its figures."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from masks import harm
from masks.harm import Change, Interval, figures, warnings
from tests.masks.samples import json_objects, json_values, mask, mixed, quick

GOOD: dict[str, Any] = {
    "before": {"toxic": [3, 100, 0.01, 0.08], "repetitive": [36, 100, 0.27, 0.46], "perplexity": [35.3, 33.0, 37.0]},
    "after": {"toxic": [2, 100, 0.0, 0.07], "repetitive": [5, 100, 0.02, 0.11], "perplexity": [35.6, 33.3, 37.3]},
    "difference": {
        "toxic": [-0.01, -0.05, 0.03],
        "repetitive": [-0.31, -0.41, -0.2],
        "perplexity": [0.0084, 0.005, 0.0112],
    },
    "shown": {"before": [36, 100, 0.27, 0.46], "after": [5, 100, 0.02, 0.11], "difference": [-0.31, -0.41, -0.2]},
}
BAD: dict[str, Any] = {
    "difference": {
        "toxic": [0.1, 0.01, 0.2],
        "repetitive": [0.6429, 0.34, 0.83],
        "empty": [0.1, 0.06, 0.16],
        "perplexity": [2.45, 2.1, 2.9],
    },
    "before": {"toxic": [1, 14, 0.01, 0.3], "repetitive": [5, 14, 0.16, 0.61], "empty": [0, 150, 0.0, 0.02]},
    "after": {"toxic": [3, 14, 0.1, 0.5], "repetitive": [14, 14, 0.78, 1.0], "empty": [15, 150, 0.06, 0.16]},
    "shown": {"before": [5, 14, 0.16, 0.61], "after": [14, 14, 0.78, 1.0], "difference": [0.6429, 0.34, 0.83]},
}


def difference(**changed: Any) -> dict[str, Any]:
    return {**GOOD, "difference": {**GOOD["difference"], **changed}}


def test_a_mask_that_does_its_work_at_no_great_cost_has_no_warnings():
    assert warnings(GOOD) == ()
    assert mask({0: [1]}, measured=GOOD).warnings == ()


def test_a_mask_that_was_not_measured_has_none():
    assert mask({0: [1]}, measured={}).warnings == ()
    assert (mixed() | mask({0: [2]}, measured=BAD)).warnings == ()


def test_a_harmful_mask_says_all_that_is_wrong_with_it():
    assert mask({0: [1]}, measured=BAD).warnings == (
        "Perplexity rose by 245.0% (interval 210.0% to 290.0%).",
        "The behaviour did not fall for certain: 35.7% before, 100.0% after (difference 64.3%, interval 34.0% to "
        "83.0%).",
        "Toxic responses became more frequent: 7.1% before, 21.4% after (difference 10.0%, interval 1.0% to 20.0%).",
        "Repetitive responses became more frequent: 35.7% before, 100.0% after (difference 64.3%, interval 34.0% to "
        "83.0%).",
        "Empty responses became more frequent: 0.0% before, 10.0% after (difference 10.0%, interval 6.0% to 16.0%).",
    )


@pytest.mark.parametrize(
    ("measured", "begins"),
    [
        (difference(perplexity=[0.05, 0.01, 0.09]), ()),
        (difference(perplexity=[0.0501, -0.2, 0.9]), ("Perplexity rose by 5.0%",)),
        (difference(perplexity=[1e12, 1, 1e13]), ("Perplexity rose by 1e+14%",)),
        (difference(toxic=[0.1, 0.0, 0.2]), ()),
        (difference(toxic=[0.1, 0.001, 0.2]), ("Toxic responses became more frequent",)),
        ({"shown": {"difference": [-0.2, -0.4, -0.001]}}, ()),
        (
            {"shown": {"difference": [-0.2, -0.4, 0]}},
            ("The behaviour did not fall for certain (difference -20.0%, interval -40.0% to 0.0%).",),
        ),
    ],
)
def test_where_a_warning_begins(measured, begins):
    messages = warnings(measured)
    assert len(messages) == len(begins)
    assert all(each.startswith(words) for each, words in zip(messages, begins, strict=True)), messages


def test_what_is_stored_stands_and_nothing_is_added():
    assert warnings({**BAD, "warnings": ["Loops everywhere.", "And slow."]}) == ("Loops everywhere.", "And slow.")


@pytest.mark.parametrize("stored", [[], None, "text", {"a": "b"}, ["a", 1], [["a"]], [None], ["", " \x00\n"], 7, True])
def test_what_is_no_list_of_sentences_is_as_none(stored):
    assert warnings({**BAD, "warnings": stored}) == warnings(BAD) != ()


def test_stored_warnings_are_few_short_and_on_one_line():
    long = ["x" * 501, *("y" for _ in range(9))]
    messages = warnings({"warnings": long})
    assert len(messages) == harm.MAX_WARNINGS == 8
    assert messages[0] == "x" * 499 + "…"
    text = "a\x1b[31mred\x1b[0m\r\nb\u202ec\u2028d\x9b2J  e\x00"
    assert warnings({"warnings": [text]}) == ("a [31mred [0m b c d 2J e",)


def test_figures_are_read_as_they_are_written():
    changes = figures(BAD)
    assert changes.perplexity == Interval(2.45, 2.1, 2.9)
    assert changes.behaviour == Change(5 / 14, 1.0, Interval(0.6429, 0.34, 0.83))
    assert changes.toxic == Change(1 / 14, 3 / 14, Interval(0.1, 0.01, 0.2))


@pytest.mark.parametrize(
    "wrong",
    [[], [1, 2], [1, 2, 3, 4], ["9", 0, 1], [None, 0, 1], [True, 0, 1], {"value": 9}, "999", 9, [float("nan")] * 3],
)
def test_a_figure_of_another_shape_is_none(wrong):
    assert figures(difference(perplexity=wrong)).perplexity is None
    assert warnings(difference(perplexity=wrong)) == ()


@pytest.mark.parametrize(
    "wrong", [[0, 0, 0, 1], [3, 2, 0, 1], [-1, 2, 0, 1], [1, 2, 0], [1, "2", 0, 1], [[1], 2, 0, 1]]
)
def test_a_rate_that_cannot_be_is_none(wrong):
    assert figures({"shown": {"before": wrong}}).behaviour.before is None


NUMBERS = json_values | st.integers() | st.floats() | st.lists(st.floats() | st.integers(), min_size=3, max_size=4)
SIDES = ("before", "after", "difference", "shown", "warnings")
KEYS = ("perplexity", "toxic", "repetitive", "empty", "before", "after", "difference")
SHAPED = st.dictionaries(
    st.sampled_from(SIDES), st.dictionaries(st.sampled_from(KEYS), NUMBERS) | NUMBERS | st.lists(st.text())
)


@quick
@given(json_values | SHAPED)
@example({"difference": {"perplexity": [10**400, 10**400, 10**400]}})
@example({"difference": {"perplexity": [1e299, -1e299, 1e299]}, "shown": {"difference": [1e299, 1e299, 1e299]}})
def test_any_json_is_read_without_an_error(measured):
    messages = warnings(measured)
    assert len(messages) <= 8
    for each in messages:
        assert 0 < len(each) <= 500
        assert each.isprintable()


@quick
@given(json_objects)
def test_a_mask_answers_whatever_was_measured(measured):
    assert mask({0: [1]}, measured=measured).warnings == warnings(measured)
