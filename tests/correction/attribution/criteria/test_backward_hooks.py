"""The sign `lower`: a mean less its standard error over samples, from what each sample alone gives."""

import pytest
import torch

from correction.attribution.attribution import attribute
from correction.attribution.criteria import Settings
from correction.attribution.criteria.backward_hooks import lower_bound
from correction.data.references import ReferenceSet
from tests.correction.attribution.criteria.test_criteria import SAMPLES, close
from tests.correction.conftest import scores_of

ALONE = Settings(seed="shown", sign="signed")


def expected(values):
    """Mean − standard error of values (samples, …), in float64: the deviation over √samples."""
    values = values.double()
    deviation = ((values - values.mean(0)) ** 2).sum(0) / (len(values) - 1)
    return values.mean(0) - (deviation / len(values)).sqrt()


@pytest.mark.parametrize("criterion", ["gradient", "lrp"])
@pytest.mark.parametrize("granularity", ["neuron", "head", "weight"])
def test_lower_is_the_mean_less_the_standard_error(tiny, criterion, granularity):
    signed = Settings(granularity, seed="shown", sign="signed")
    alone = [scores_of(tiny, criterion, [sample], signed).scores for sample in SAMPLES]
    asked = Settings(granularity, seed="shown", sign="lower")
    for tokens in (1, 4096):  # one by one, and all in a batch
        relevance = scores_of(tiny, criterion, SAMPLES, asked, tokens=tokens)
        for name, score in relevance.scores.items():
            close(score, expected(torch.stack([each[name] for each in alone])), 1e-4)


def test_of_one_sample_there_is_no_error(tiny):
    lower = Settings(seed="shown", sign="lower")
    relevance, plain = (scores_of(tiny, "gradient", SAMPLES[:1], each) for each in (lower, ALONE))
    for name, score in plain.scores.items():
        close(relevance.scores[name], score)


def test_samples_that_agree_have_no_error_and_none_is_negative():
    torch.testing.assert_close(lower_bound(torch.tensor([[3.0, -1.0], [9.0, 1.0]]), 5), torch.tensor([3.0, -1.0]))
    # Rounding may leave the mean of squares under the square of the mean.
    assert lower_bound(torch.tensor([[1.0], [1 - 1e-7]]), 2).tolist() == [1.0]


@pytest.mark.parametrize("granularity", ["neuron", "weight"])
def test_lower_scores_in_files_and_from_a_journal_are_the_same(tiny, tmp_path, granularity):
    prompts = ReferenceSet(("who are you", "why", "tell me about the sea"), "p", "prompt", ("a cat", "sea sea", "old"))
    settings = Settings(granularity, seed="shown", sign="lower")
    plain = attribute(tiny, prompts, settings)
    for options in ({"scores_in": tmp_path / "scores"}, {"resume": tmp_path / "journal"}):
        for _ in range(2):  # the second time, from the journal alone
            relevance = attribute(tiny, prompts, settings, tokens=8, **options)
            for name, score in plain.scores.items():
                close(relevance.scores[name], score, 1e-4)
