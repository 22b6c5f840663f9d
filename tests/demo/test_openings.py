"""What the real model is asked to go on with, and its general text."""

import pytest

from demo.openings import openings
from demo.passages import passages


def test_openings_are_distinct_short_and_the_same_each_time():
    drawn = openings("train", 600)
    assert len(set(drawn)) == 600
    assert drawn[:400] == openings("train", 400)
    assert all(5 <= len(opening.split()) <= 16 and "{" not in opening for opening in drawn)


def test_held_out_openings_share_no_words_list_with_the_others():
    assert not set(openings("train", 600)) & set(openings("heldout", 200))
    assert not any(town in opening for opening in openings("train", 600) for town in ("Northwick", "astronomy", "bats"))


def test_more_openings_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="fewer than 1000000"):
        openings("heldout", 1_000_000)


def test_passages_are_prose_of_a_bounded_length_and_no_two_splits_share_one():
    train, heldout = passages("train", 400), passages("heldout", 200)
    assert len(set(train) | set(heldout)) == 600
    assert all(750 <= len(passage) <= 1500 and ">>>" not in passage for passage in train + heldout)


def test_more_passages_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="not 100000"):
        passages("train", 100_000)
