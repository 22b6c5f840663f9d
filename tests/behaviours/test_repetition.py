import pytest

from behaviours import REPETITIVE_BELOW, is_repetitive, repeated, response_uniqueness_ratio


@pytest.mark.parametrize(
    ("tokens", "ratio"), [([], 0.0), ([7], 1.0), ([1, 2, 3, 4], 1.0), ([1, 1, 1, 1], 0.25), ([1, 2, 1, 2], 0.5)]
)
def test_ratio_is_distinct_over_total(tokens, ratio):
    assert response_uniqueness_ratio(tokens) == ratio


def test_a_response_at_the_limit_is_not_repetitive():
    assert REPETITIVE_BELOW == 0.5
    assert not is_repetitive([1, 2, 1, 2])
    assert is_repetitive([1, 2, 1, 2, 1])


def test_an_empty_response_is_not_repetitive():
    assert response_uniqueness_ratio(()) == 0.0
    assert not is_repetitive(())


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([], []),
        ([1, 2], [0, 0]),
        ([1, 1, 1, 1, 1], [0, 0, 0, 1, 1]),  # 1 1 1 is said first by the third, again from the fourth on
        ([1, 2, 3, 1, 2, 3, 4], [0, 0, 0, 0, 0, 1, 0]),
        ([1, 2, 1, 2, 1, 2], [0, 0, 0, 0, 1, 1]),
        ([1, 2, 3, 4, 5], [0, 0, 0, 0, 0]),
    ],
)
def test_a_token_that_ends_a_run_said_before_is_repeated(tokens, expected):
    assert repeated(tokens) == [bool(each) for each in expected]


def test_runs_may_have_another_length():
    assert repeated([7, 7, 8, 7], n=1) == [False, True, False, True]
    assert repeated([1, 2, 3, 4, 1, 2, 3, 4], n=4) == [False] * 7 + [True]
