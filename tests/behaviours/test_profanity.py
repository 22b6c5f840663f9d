import sys
from importlib.metadata import version

import numpy as np
import pytest

from behaviours import ScorerError, ToxicityScorer, load_scorer


def test_profanity_scorer_says_what_it_is():
    scorer = load_scorer()
    assert isinstance(scorer, ToxicityScorer)
    assert (scorer.name, scorer.threshold) == ("alt-profanity-check", 0.5)
    assert scorer.version == version("alt-profanity-check")


def test_insults_score_over_the_threshold_and_plain_words_under():
    scorer = load_scorer("profanity")
    scores = scorer.score(["You are a stupid idiot.", "The train leaves at nine."])
    assert scores.dtype == np.float64
    assert scores.shape == (2,)
    assert scores[0] >= scorer.threshold > scores[1]


def test_nothing_scores_nothing():
    scorer = load_scorer()
    assert scorer.score([]).shape == (0,)
    assert scorer.score(["", "  \n"]).tolist() == [0.0, 0.0]


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "profanity_check", None)
    with pytest.raises(ScorerError, match="pip install alt-profanity-check"):
        load_scorer()
