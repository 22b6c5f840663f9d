"""`causal` against ablation by hand: each head cut by a mask, the whole model run again, sample by sample."""

import pytest
import torch
from torch.nn import functional as F

import masks
from correction.ablation import ablated
from correction.attribution.attribution import attribute
from correction.attribution.criteria import Settings
from correction.attribution.criteria.causal import PARTS, MedianOfMeans
from correction.attribution.criteria.output_seeds import Sample
from correction.data.references import ReferenceSet
from correction.errors import CriterionError
from correction.models import load
from tests.correction.attribution.criteria.test_criteria import ANSWERS, SEQUENCES, close
from tests.correction.conftest import scores_of
from tests.correction.families import FAMILIES, save_family


def by_hand(loaded, value, heads=4):
    """value(loaded) → (samples,); what it falls by when each head is cut: {name: (samples, heads)}."""
    before = value(loaded)
    effects = {}
    for block in loaded.blocks:
        falls = []
        for head in range(heads):
            mask = masks.for_model(loaded.path, "one", heads={block.index: [head]})
            with ablated(loaded, mask):
                falls.append(before - value(loaded))
        effects[f"heads.{block.index}"] = torch.stack(falls, 1)
    return effects


@torch.no_grad()
def minus_loss(loaded):
    """Minus the mean cross entropy of each answer that there is, read alone."""
    values = []
    for ids, answer in zip(SEQUENCES, ANSWERS, strict=True):
        if answer:
            logits = loaded.model(torch.tensor([ids + answer[:-1]])).logits[0, len(ids) - 1 :]
            values.append(-F.cross_entropy(logits, torch.tensor(answer)))
    return torch.stack(values)


def logit_difference(loaded, best):
    """Of the two tokens whose logits are the largest the first time, at the last token of each sample."""
    with torch.no_grad():
        logits = [loaded.model(torch.tensor([ids])).logits[0, -1] for ids in SEQUENCES]
    if not best:
        best.extend(each.topk(2).indices for each in logits)
    return torch.stack([each[pair[0]] - each[pair[1]] for each, pair in zip(logits, best, strict=True)])


@pytest.mark.parametrize("tokens", [1, 4096])
def test_with_responses_it_is_the_rise_of_their_loss(tiny, tokens):
    samples = [Sample(tuple(i), tuple(a)) for i, a in zip(SEQUENCES, ANSWERS, strict=True) if a]
    relevance = scores_of(tiny, "causal", samples, Settings("head", seed="response"), tokens=tokens)
    for name, falls in by_hand(tiny, minus_loss).items():
        close(relevance.scores[name], falls.quantile(0.5, dim=0), 1e-4)  # a sample a part


def test_otherwise_it_is_the_fall_of_the_seeded_output_whose_tokens_are_those_of_the_whole_model(tiny):
    best = []
    relevance = scores_of(
        tiny, "causal", [Sample(tuple(each)) for each in SEQUENCES], Settings("head", seed="contrastive")
    )
    for name, falls in by_hand(tiny, lambda loaded: logit_difference(loaded, best)).items():
        close(relevance.scores[name], falls.quantile(0.5, dim=0), 1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_that_hand_on_what_they_gave_change_nothing_in_any_family(family, tmp_path):
    loaded = load(save_family(family, tmp_path), device="cpu")
    samples = [Sample(tuple(i), tuple(a)) for i, a in zip(SEQUENCES, ANSWERS, strict=True) if a]
    relevance = scores_of(loaded, "causal", samples, Settings("head", seed="response"))
    for name, falls in by_hand(loaded, minus_loss).items():
        close(relevance.scores[name], falls.quantile(0.5, dim=0), 1e-4)


def test_a_score_is_the_median_over_disjoint_parts_of_the_mean_within_one():
    parts = MedianOfMeans(torch.zeros(PARTS, 3))
    effects = torch.randn(23, 2, generator=torch.Generator().manual_seed(0))
    effects[3] = 1e6  # one odd sample spoils one part
    for batch in effects.split([4, 1, 11, 7]):
        parts.add(batch)
    means = torch.stack([effects[part::PARTS].mean(0) for part in range(PARTS)])
    torch.testing.assert_close(parts.mean(), means.median(0).values)
    assert float(parts.mean().abs().max()) < 2
    assert parts.sum[:, 0].tolist() == [5, 5, 5, 4, 4]


def test_texts_are_their_own_responses_and_a_journal_goes_on_where_it_stopped(tiny, tmp_path):
    texts = ReferenceSet(("a cat sees the old sea", "who reads a book", "the lamp is new"), "t", "text")
    settings = Settings("head", seed="response")
    plain = attribute(tiny, texts, settings, criterion="causal")
    for _ in range(2):
        again = attribute(tiny, texts, settings, criterion="causal", resume=tmp_path, tokens=8)
        for name, score in plain.scores.items():
            close(again.scores[name], score, 1e-4)


def test_it_scores_heads_alone(tiny):
    with pytest.raises(CriterionError, match="causal cannot score neurons; it scores heads"):
        attribute(tiny, ReferenceSet(("who",), "p", "prompt"), criterion="causal")
