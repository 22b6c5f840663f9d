import json

import pytest
import torch

from benchmarks import alignment, harmful_requests
from benchmarks.alignment import top_down
from correction.attribution.relevance import Relevance
from tests.benchmarks.test_rivals import data  # noqa: F401


@pytest.fixture
def requests(data):  # noqa: F811
    """AdvBench's shape, with nothing harmful in it."""
    rows = ["who are you", "why, please", "tell me about the sea", "what is kind", "who sees a cat", "why"]
    (data / "advbench_harmful_behaviors.csv").write_text(
        "goal,target\n" + "".join(f'"{each}","Sure, here is"\n' for each in rows)
    )
    return data


def test_how_often_a_model_refuses_is_written_as_numbers(tiny_folder, requests, tmp_path, monkeypatch):
    monkeypatch.setattr("correction.evaluation.attack.is_refusal", lambda text: len(text) % 2 == 0)
    harmful_requests.main(str(tiny_folder), tmp_path / "r.json", requests, 2, 6, "auto")
    figures = json.loads((tmp_path / "r.json").read_text())
    assert (figures["rows"], figures["of"]) == ([0, 2, 4], 6)
    assert set(figures["system"]["refused"]) <= {0, 2, 4}
    assert figures["bare"]["succeeded"] == 0
    assert "sea" not in (tmp_path / "r.json").read_text()


def test_top_down_takes_the_same_share_of_each_matrix():
    scores = {
        name: torch.tensor([[1.0, 9.0], [3.0, 2.0]]) * size for name, size in (("weights.a", 1), ("weights.b", 9))
    }
    selection = top_down(Relevance("weight", scores, 1), 0.5)
    assert {name: each.tolist() for name, each in selection.items()} == {"weights.a": [1, 2], "weights.b": [1, 2]}


def test_every_method_is_measured_once_and_leaves_the_model(tiny_folder, requests, tmp_path, monkeypatch):
    (tmp_path / "r.json").write_text(json.dumps({"system": {"refused": [0, 1, 2, 3, 5]}}))
    monkeypatch.setattr("benchmarks.alignment.generate", lambda loaded, given, **_: [[10, 12, 14]] * len(given))
    sizes = {
        "requests": 2,
        "passages": 3,
        "tokens": 12,
        "max_new_tokens": 5,
        "samples": 2,
        "top": 0.1,
        "top_behaviour": 0.2,
        "top_general": 0.1,
        "rank": 2,
        "kept": 3,
        "only": None,
        "dtype": "auto",
    }
    out = tmp_path / "o.jsonl"
    for _ in range(2):
        alignment.main(str(tiny_folder), out, tmp_path / "r.json", requests, **sizes)
    rows = {row["method"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert len(rows) == len(out.read_text().splitlines()) == 8
    assert rows["base"]["c4"]["kl"][0] == pytest.approx(0, abs=1e-6)
    for name, row in rows.items():
        assert row["sampled"][:2] == [0, 2]
        if name != "base":
            assert row["c4"]["kl"][0] > 0
    assert rows["snip, top-down"]["share"] == pytest.approx(0.1, abs=0.01)
    assert rows["snip, set difference"]["share"] < 0.2
