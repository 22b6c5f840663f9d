"""Gates trained by gradient: what they are for gets better, and nothing of the model changes."""

import math
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch

from correction.ablation import ablated
from correction.attribution.criteria.output_seeds import Sample, seeded_batches
from correction.attribution.relevance import Relevance
from correction.correct import build_mask
from correction.errors import SelectionError
from correction.search.refinement import Refinement, _margin_loss, _onset, refine
from tests.correction.test_leaves_no_trace import trace

SAMPLES = [
    Sample((1, 8, 17), (9, 22, 9), weights=(0.0, 0.5, 0.5)),
    Sample((1, 14), (9, 9)),
    Sample((1, 40, 11, 12), (7, 9), weights=(0.0, 1.0)),
]
GENERAL = [[1, 8, 17, 30, 9, 22], [1, 14, 6, 25], [3], [1, 40, 11, 12, 33, 7, 19, 28, 35]]
QUICK = Refinement(candidates=20, steps=25, rate=0.05, divergence=1.0, tokens=24)


def scores(tiny, granularity="neuron"):
    """Some that are worth a cut, by chance."""
    generator = torch.Generator().manual_seed(1)
    width = 48 if granularity == "neuron" else 4
    found = {f"{granularity}s.{block.index}": 0.3 * torch.randn(width, generator=generator) for block in tiny.blocks}
    return Relevance(granularity, found, 1)


@torch.no_grad()
def objective(tiny, refined, settings):
    """Of all samples and texts, position by position, with the gates as they were trained: unrounded."""
    bases = [tiny.model(torch.tensor([ids])).logits[0].log_softmax(-1) for ids in GENERAL if len(ids) > 1]
    with ExitStack() as stack:
        for block in tiny.blocks:
            for name, module in ((f"neurons.{block.index}", block.down_proj), (f"heads.{block.index}", block.o_proj)):
                if name in refined.scores:
                    gate = 1 + refined.scores[name].clamp_max(0)
                    gate = gate.repeat_interleave(module.in_features // len(gate))
                    handle = module.register_forward_pre_hook(lambda module, inputs, gate=gate: (inputs[0] * gate,))
                    stack.callback(handle.remove)
        against = 0.0
        for sample in SAMPLES:
            logits = tiny.model(torch.tensor([sample.given + sample.response[:-1]])).logits[0]
            weights = sample.weights or [1] * len(sample.response)
            shown = [step for step, weight in enumerate(weights) if weight][: settings.onset]
            inverse = 0.0
            for step in shown:
                row, token = logits[len(sample.given) - 1 + step], sample.response[step]
                other = max(value for place, value in enumerate(row.tolist()) if place != token)
                inverse += math.exp(other - float(row[token]))
            against += math.log1p(math.exp(1 - math.log(inverse)))
        cut = [tiny.model(torch.tensor([ids])).logits[0].log_softmax(-1) for ids in GENERAL if len(ids) > 1]
    kl = torch.cat([(base.exp() * (base - each)).sum(-1) for base, each in zip(bases, cut, strict=True)]).mean()
    return against / len(SAMPLES) + settings.divergence * float(kl)


def begun(given, count):
    """Where the candidates start: 1 − g from 0.02 to 0.9."""
    limit = torch.cat(list(given.scores.values())).sort().values[count - 1]
    found = {name: torch.where(each <= limit, each.clamp(-0.9, -0.02), 1.0) for name, each in given.scores.items()}
    return Relevance(given.granularity, found, 1)


@pytest.mark.parametrize(("granularity", "count"), [("neuron", 20), ("head", 3)])
def test_the_objective_falls_and_only_candidates_are_trained(tiny, granularity, count):
    given = scores(tiny, granularity)
    settings = Refinement(**{**vars(QUICK), "candidates": count})
    told = []
    found = refine(tiny, given, SAMPLES, GENERAL, settings, progress=lambda *each: told.append(each))
    assert told == [("refinement", step, 25) for step in range(1, 26)]
    assert (found.granularity, list(found.scores)) == (granularity, list(given.scores))
    first = begun(given, count)
    trained = 0
    for name, score in found.scores.items():
        candidates = first.scores[name] < 1
        assert torch.equal(score[~candidates], torch.ones(int((~candidates).sum())))
        assert ((score[candidates] <= 0) & (score[candidates] >= -1)).all()
        assert (score[candidates] != first.scores[name][candidates]).any() or not candidates.any()
        trained += int(candidates.sum())
    assert trained == count
    assert objective(tiny, found, settings) < 0.98 * objective(tiny, first, settings)


def test_the_model_is_as_it_was(tiny):
    before = trace(tiny.model)
    refine(tiny, scores(tiny), SAMPLES, GENERAL, QUICK)
    assert trace(tiny.model) == before

    def broken(*step):
        raise RuntimeError("told")

    with pytest.raises(RuntimeError, match="told"):
        refine(tiny, scores(tiny), SAMPLES, GENERAL, QUICK, progress=broken)
    assert trace(tiny.model) == before


def test_refining_twice_gives_the_same_and_another_seed_another(tiny):
    one, same = (refine(tiny, scores(tiny), SAMPLES, GENERAL, QUICK).scores for _ in range(2))
    other = refine(tiny, scores(tiny), SAMPLES, GENERAL, Refinement(**{**vars(QUICK), "seed": 1})).scores
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_what_is_cut_already_stays_cut_and_is_no_candidate(tiny):
    given = scores(tiny)
    given.scores["neurons.0"][:5] = float("inf")
    with ablated(tiny, build_mask(tiny, {"neurons.0": dict.fromkeys(range(5), 0.0)}, name="m", made={})):
        found = refine(tiny, given, SAMPLES, GENERAL, QUICK)
    assert found.scores["neurons.0"][:5].tolist() == [1.0] * 5


def test_a_high_price_of_size_leaves_less(tiny):
    few, many = (
        refine(tiny, scores(tiny), SAMPLES, GENERAL, Refinement(**{**vars(QUICK), "sparsity": price}))
        for price in (100.0, 0.0)
    )
    sizes = [-torch.cat(list(each.scores.values())).clamp_max(0).sum() for each in (few, many)]
    assert sizes[0] < sizes[1] / 2


@pytest.mark.parametrize("onset", [1, 10])
def test_what_counts_is_the_least_margin_where_the_behaviour_begins(tiny, onset):
    """The objective of this file and the one that is trained agree on the behaviour's part."""
    settings = replace(QUICK, onset=onset)
    (batch,) = seeded_batches([_onset(sample, onset) for sample in SAMPLES], "shown")
    found = _margin_loss(tiny, batch).item() / len(SAMPLES)
    assert objective(tiny, Relevance("neuron", {}, 1), settings) == pytest.approx(found, rel=1e-5)


def test_where_nothing_is_better_cut_there_is_nothing_to_refine(tiny):
    kept = Relevance("neuron", {name: score.abs() for name, score in scores(tiny).scores.items()}, 1)
    with pytest.raises(SelectionError, match="nothing to refine"):
        refine(tiny, kept, SAMPLES, GENERAL, QUICK)
