import json

import numpy as np
import torch

from benchmarks import corrections, pareto, rivals
from benchmarks.corrections import Job, jobs
from correction.attribution.relevance import Relevance


def test_every_row_is_told_from_the_others_and_can_be_ranked():
    listed = list(jobs())
    assert len({json.dumps(job.row) for job in listed}) == len(listed)
    assert all(ranking.settings.granularity == job.granularity for job in listed for ranking in job.rankings())


def test_every_rival_has_its_rows():
    assert sorted(corrections.RIVALS) == sorted(each.name for each in rivals.rivals(None, "loops", None))


def test_eq_7_gain_for_cost_and_bounded_rank_are_told_apart():
    ranked = {name: Job("loops", "weight", name, 0.01).rankings()[0] for name in ("lrp", "lrp*", "lrp*r")}
    assert [each.contrast for each in ranked.values()] == ["difference", "cost", "cost"]
    assert [each.rank for each in ranked.values()] == [None, None, corrections.RANK]


def test_candidates_by_lot_are_as_strong_and_others(monkeypatch):
    seen = []
    monkeypatch.setattr(corrections, "refine", lambda loaded, begun: seen.append(begun))
    scores = Relevance("neuron", {f"neurons.{layer}": torch.randn(50) for layer in (0, 1)}, 1)
    corrections._by_lot(None, scores)
    before, after = (
        np.concatenate([each.numpy() for each in relevance.scores.values()]) for relevance in (scores, seen[0])
    )
    assert (np.sort(before) == np.sort(after)).all()
    assert (before != after).mean() > 0.9


def row(rival, count, increase, **more):
    text = {"increase": [increase, increase - 0.01, increase + 0.01], "kl": [0.1, 0.1, 0.1]}
    shown = {"repetitive": [count, 10, 0.1, 0.9], "c4": text, "wikitext2": text, "uniqueness": 0.5}
    return {"case": "loops", "rival": rival} | shown | more


def test_the_table_counts_against_the_model_as_it_is_the_cheapest_first(tmp_path):
    rows = [row("neurons, search", 2, 0.03, budget=0.05, cut=7), row("base", 8, 0.0), row("aura", 9, 0.2)]
    lines = pareto.table(
        [*rows, {"case": "loops", "rival": "neurons, random", "budget": 0.01, "nothing": "…"}]
    ).splitlines()
    assert lines[4:7] == [
        "| as it is | 8 |  | 0.100 |  | 0.50 |  |",
        "| neurons, search, 5% | 2 (−75%) | +3.0% [+2.0%, +4.0%] | 0.100 | +3.0% [+2.0%, +4.0%] | 0.50 | 7 |",
        "| AurA | 9 (+12%) | +20.0% [+19.0%, +21.0%] | 0.100 | +20.0% [+19.0%, +21.0%] | 0.50 |  |",
    ]
    assert lines[-1].endswith("neurons, random, 1%.")
    pareto.draw({"loops": rows}, tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 5000
