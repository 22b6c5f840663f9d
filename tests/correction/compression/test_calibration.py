import numpy as np
import pytest

from correction.compression import calibrate
from correction.errors import CompressionError


def test_short_passages_are_packed_whole_in_a_drawn_order_without_padding(model, texts):
    calibration = calibrate(model, texts, windows=8, window=16, seed=3)
    order = np.random.default_rng(3).permutation(len(texts))
    ids = model.tokenizer("\n\n".join(texts.texts[place] for place in order))["input_ids"]
    assert calibration.ids.flatten().tolist() == ids[: 8 * 16]
    assert calibration.ids.shape == (8, 16)


def test_the_seed_draws_the_order_and_all_of_it_is_recorded(model, texts):
    one, other = (calibrate(model, texts, windows=4, window=16, seed=seed) for seed in (0, 1))
    assert one.ids.tolist() != other.ids.tolist()
    description = other.described()
    assert (description["windows"], description["window"], description["seed"], description["size"]) == (4, 16, 1, 60)
    assert description["sha256"] == texts.sha256[:16] and description["name"] == "passages.txt"


def test_the_window_is_the_context_where_that_is_under_2048_tokens(model, texts):
    assert calibrate(model, texts, windows=2).ids.shape == (2, model.context_length)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"windows": 128, "window": 64}, "fill 8 windows of 64 tokens, and 128 are asked for; give more text"),
        ({"windows": 2, "window": 65}, "from 2 to the context of 64"),
        ({"windows": 2, "window": 1}, "from 2 to the context of 64"),
        ({"windows": 0, "window": 8}, "at least 1"),
    ],
)
def test_windows_that_cannot_be_had_are_refused(model, texts, given, words):
    with pytest.raises(CompressionError, match=words):
        calibrate(model, texts, **given)
