from contextlib import contextmanager

import numpy as np
import pytest
import torch

from benchmarks.reading import Change, Reading

SAMPLES = [[1, 7, 8, 9, 20], [1, 30], [12, 13, 14, 15, 16, 17, 18]]


@contextmanager
def doubled(loaded):
    hook = loaded.blocks[0].down_proj.register_forward_hook(lambda module, inputs, output: 2 * output)
    yield
    hook.remove()


@torch.no_grad()
def log_probabilities(loaded, sample):
    return loaded.model(input_ids=torch.tensor([sample])).logits[0, :-1].double().log_softmax(-1)


def test_sums_against_a_direct_calculation(tiny):
    reading = Reading(tiny, SAMPLES)
    before = [log_probabilities(tiny, sample) for sample in SAMPLES]
    with doubled(tiny):
        change = reading.change()
        after = [log_probabilities(tiny, sample) for sample in SAMPLES]
    for place, (sample, p, q) in enumerate(zip(SAMPLES, before, after, strict=True)):
        tokens = torch.arange(len(sample) - 1), torch.tensor(sample[1:])
        assert change.before[place] == pytest.approx(-float(p[tokens].sum()), rel=1e-4)
        assert change.after[place] == pytest.approx(-float(q[tokens].sum()), rel=1e-4)
        assert change.divergence[place] == pytest.approx(float((p.exp() * (p - q)).sum()), rel=1e-3)
        assert change.agreements[place] == int((p.argmax(-1) == q.argmax(-1)).sum())
        assert change.tokens[place] == len(sample) - 1
    assert change.divergence.sum() > 0.1


def test_nothing_changed_is_no_change(tiny):
    change = Reading(tiny, SAMPLES).change()
    assert np.array_equal(change.before, change.after)
    assert change.divergence == pytest.approx(0, abs=1e-6)
    assert np.array_equal(change.agreements, change.tokens)


def test_something_before_a_text_counts_the_same_tokens(tiny):
    before = [[33, 34, *sample] for sample in SAMPLES]
    change = Reading(tiny, SAMPLES).change(before)
    for place, sample in enumerate(SAMPLES):
        q = log_probabilities(tiny, before[place])[2:]
        expected = -float(q[torch.arange(len(sample) - 1), torch.tensor(sample[1:])].sum())
        assert change.after[place] == pytest.approx(expected, rel=1e-4)
        assert change.tokens[place] == len(sample) - 1


def test_summary_by_hand():
    two = np.array([2.0, 2.0])
    summary = Change(two * np.log(4), two * np.log(5), two * 0.25, np.array([2.0, 1.0]), two).summary()
    assert summary == {
        "tokens": 4,
        "perplexity": 4.0,
        "increase": [0.25, 0.25, 0.25],
        "kl": [0.25, 0.25, 0.25],
        "agreement": 0.75,
    }
