"""What a search tells of what it tried."""

import numpy as np

from correction.search.trials import SearchResult, Trial
from stats.estimates import Estimate


def tried(label, shown, cost, gated=None):
    return Trial(
        label, 1, shown, Estimate(cost, cost - 0.01, cost + 0.01), 0.0123456, gated or {}, Estimate(0, -0.01, 0.01)
    )


def test_the_front_is_what_no_other_beats_by_perplexity():
    none, best, dear, worse, cheap = (
        tried(*each)
        for each in (
            ("none", 0.9, 0.0),
            ("best", 0.2, 0.01),
            ("dear", 0.0, 0.3),
            ("worse", 0.3, 0.02),
            ("ch", 0.8, -0.1),
        )
    )
    found = SearchResult(best, (none, dear, worse, best, cheap))
    assert found.front == (cheap, best, dear)


def test_what_was_not_asked_is_not_on_the_front():
    none, over = tried("none", 0.9, 0.0), tried("over", float("inf"), -0.1)
    assert SearchResult(none, (none, over)).front == (none,)


def test_of_equals_the_front_has_one():
    one, other = tried("a", 0.5, 0.1), tried("b", 0.5, 0.1)
    assert SearchResult(one, (one, other)).front == (one,)


def test_a_trial_counts_cut_and_dampened_and_is_told_in_short():
    found = tried("x", 1 / 3, 0.0123456, {"neurons.0": {3: 0.5, 4: 0.0}, "weights.a": np.array([1])})
    assert found.count == 3
    assert found.described() == {
        "ranking": "x",
        "round": 1,
        "count": 3,
        "shown": 0.3333,
        "increase": [0.0123, 0.00235, 0.0223],
        "kl": 0.0123,
        "repetitive": 0,
    }
