"""Where in a response a behaviour happens, and what an attribution makes of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from correction.attribution.attribution import weight_by_detector
from correction.attribution.criteria.output_seeds import Sample
from correction.data.detectors import RegexDetector, RepetitionDetector, ToxicityDetector
from correction.evaluation import Response

WORDS = ("you ", "fool", "s and", " so", "", "ver", "y fool")
"""Text of each token; that of 4, a special one, is skipped."""


def decode(tokens):
    return "".join(WORDS[token] for token in tokens)


def response(*tokens):
    return Response("", decode(tokens), tokens)


class Fools:
    """Half a point for each `fool`, a tenth less for each `so`."""

    name, version, threshold = "fools", "1", 0.5

    def score(self, texts):
        return np.array([min(1.0, 0.1 + 0.4 * text.count("fool") - 0.1 * text.count("so")) for text in texts])


def weights(detector, *responses):
    token_weights = detector.weights(responses, decode)
    assert [len(each) for each in token_weights] == [len(each.tokens) for each in responses]
    assert all(each.dtype == np.float64 for each in token_weights)
    return [each.tolist() for each in token_weights]


def test_repetition_happens_where_a_run_ends_that_was_said_before():
    token_weights = weights(RepetitionDetector(), response(0, 1, 2, 0, 1, 2, 3), response(0, 1), response())
    assert token_weights == [[0, 0, 0, 0, 0, 1, 0], [0, 0], []]


def test_toxicity_happens_where_the_score_rises():
    token_weights = weights(
        ToxicityDetector(Fools(), 0.3), response(0, 1, 3, 6), response(), response(3, 0), response(1)
    )
    assert [pytest.approx(each) for each in token_weights] == [[0, 0.4, 0, 0.4], [], [0, 0], [0.4]]


def test_a_match_happens_at_every_token_that_has_a_character_of_it():
    both = response(0, 1, 2, 3, 4, 6)
    assert weights(RegexDetector("fool"), both, response(0, 3), response()) == [[0, 1, 0, 0, 0, 1], [0, 0], []]
    assert weights(RegexDetector("fools"), both) == [[0, 1, 1, 0, 0, 0]]  # over a border
    assert weights(RegexDetector("u f"), both) == [[1, 1, 0, 0, 0, 0]]
    assert weights(RegexDetector("^y"), both) == [[1, 0, 0, 0, 0, 0]]


@given(st.lists(st.integers(0, 6), max_size=8))
def test_a_response_that_matches_says_somewhere_what_does(tokens):
    said = response(*tokens)
    for pattern in ("fool", "very", " "):
        total = sum(weights(RegexDetector(pattern), said)[0])
        assert (total > 0) == (pattern in said.text)


def test_weights_of_a_sample_add_up_to_one(tiny):
    ids = tiny.tokenizer("a cat cat sees cat", add_special_tokens=False)["input_ids"]
    other = tiny.tokenizer("a dog", add_special_tokens=False)["input_ids"]
    samples = [Sample((1,), tuple(ids)), Sample((1, 2), tuple(other)), Sample((1,), ())]
    weighted_samples = weight_by_detector(tiny, samples, RegexDetector("cat"))
    assert weighted_samples[0].weights == pytest.approx((0, 1 / 3, 1 / 3, 0, 1 / 3))
    assert sum(weighted_samples[0].weights) == pytest.approx(1)
    assert weighted_samples[1:] == samples[1:]  # where it does not happen, all tokens count alike
