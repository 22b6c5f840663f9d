"""What a correction may cost, and how much of it a cut spends."""

from math import inf, nan

import pytest

from correction.errors import SelectionError
from correction.search.validation import Budget
from stats.estimates import Estimate


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
