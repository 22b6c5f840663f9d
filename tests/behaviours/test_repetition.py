import pytest

from behaviours import REPETITIVE_BELOW, is_repetitive, response_uniqueness_ratio


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
