"""`cap` against its formula, and what it makes of importances."""

import torch

from correction.attribution.attribution import attribute
from correction.attribution.criteria import Settings
from correction.attribution.criteria.cap import linear_importances
from correction.attribution.criteria.output_seeds import Sample
from correction.data.references import ReferenceSet
from correction.models import load
from tests.correction.attribution.criteria.test_criteria import ANSWERS, SEQUENCES, close
from tests.correction.conftest import scores_of
from tests.correction.families import save_family

SAMPLES = [Sample(tuple(i), tuple(a)) for i, a in zip(SEQUENCES, ANSWERS, strict=True) if a]
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def importances(loaded):
    """1 to 10, linear in the causal effect of each of all heads: (layers, heads), float64."""
    scores = scores_of(loaded, "causal", SAMPLES, Settings("head", seed="response")).scores
    effects = torch.stack([scores[f"heads.{block.index}"] for block in loaded.blocks]).double()
    return 1 + 9 * (effects - effects.min()) / (effects.max() - effects.min())


def test_a_weight_counts_by_the_importance_of_its_head(tiny):
    expected = importances(tiny)
    scores = scores_of(tiny, "cap", SAMPLES, Settings("weight", seed="response", modules=ALL)).scores
    assert len(scores) == 2 * len(ALL)
    for n, block in enumerate(tiny.blocks):
        heads = expected[n].tolist()  # four of width 8, in two groups
        attention = block.layer.self_attn
        by_row = {
            "q_proj": [heads[row // 8] for row in range(32)],
            "k_proj": [(heads[2 * (row // 8)] + heads[2 * (row // 8) + 1]) / 2 for row in range(16)],
            "v_proj": [(heads[2 * (row // 8)] + heads[2 * (row // 8) + 1]) / 2 for row in range(16)],
        }
        for name, rows in by_row.items():
            weight = getattr(attention, name).weight.detach().double().abs()
            close(
                scores[f"weights.model.layers.{n}.self_attn.{name}.weight"], weight * torch.tensor(rows)[:, None], 1e-4
            )
        columns = torch.tensor([heads[column // 8] for column in range(32)])
        weight = block.o_proj.weight.detach().double().abs()
        close(scores[f"weights.model.layers.{n}.self_attn.o_proj.weight"], weight * columns, 1e-4)
        for name in ("gate_proj", "up_proj", "down_proj"):
            weight = getattr(block.mlp, name).weight.detach().double().abs()
            close(scores[f"weights.model.layers.{n}.mlp.{name}.weight"], weight * sum(heads) / 4, 1e-4)


def test_a_family_without_groups_or_a_gated_mlp(tmp_path):
    loaded = load(save_family("opt", tmp_path), device="cpu")
    expected = importances(loaded)
    names = ("q_proj", "k_proj", "out_proj", "fc1", "fc2")
    scores = scores_of(loaded, "cap", SAMPLES, Settings("weight", seed="response", modules=names)).scores
    for n, block in enumerate(loaded.blocks):
        keys = block.layer.self_attn.k_proj.weight.detach().double().abs()
        rows = expected[n].repeat_interleave(8)[:, None]
        close(scores[f"weights.model.decoder.layers.{n}.self_attn.k_proj.weight"], keys * rows, 1e-4)
        out = block.o_proj.weight.detach().double().abs()
        close(scores[f"weights.model.decoder.layers.{n}.self_attn.out_proj.weight"], out * rows.mT, 1e-4)
        first = block.up.weight.detach().double().abs()
        close(scores[f"weights.model.decoder.layers.{n}.fc1.weight"], first * expected[n].mean(), 1e-4)


def test_heads_that_matter_alike_leave_the_magnitude():
    assert torch.equal(linear_importances(torch.full((2, 4), 0.3)), torch.ones(2, 4))
    assert linear_importances(torch.tensor([-1.0, 2.0, 0.5])).tolist() == [1, 10, 5.5]


def test_it_is_one_of_the_criteria_of_an_attribution(tiny, tmp_path):
    texts = ReferenceSet(("a cat sees the old sea", "who reads a book", "the lamp is new"), "t", "text")
    asked = Settings("weight", seed="response", layers=(1,))
    plain, again = (
        attribute(tiny, texts, asked, criterion="cap", tokens=tokens, resume=tmp_path / str(tokens))
        for tokens in (4096, 8)
    )
    name = "weights.model.layers.1.mlp.down_proj.weight"
    assert list(plain.scores) == [name]
    close(plain.scores[name], again.scores[name], 1e-4)
