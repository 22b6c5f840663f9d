import numpy as np
import pytest
import torch

from benchmarks import heads_causal
from benchmarks.heads_causal import ceiling, main, score, spearman, top_shared
from correction.attribution.attribution import attribute
from correction.attribution.criteria import Settings
from correction.data.references import ReferenceSet
from tests.benchmarks.test_rivals import data  # noqa: F401
from tests.correction.attribution.criteria.test_criteria import close


def test_what_is_kept_gives_what_the_criterion_gives(tiny, tmp_path):
    texts = ReferenceSet(("a cat sees the old sea now", "who reads a book", "the lamp is new", "why"), "t", "text")
    first = heads_causal.truth(tiny, texts.taken((0, 1)), 2, tmp_path / "t.npz", False)
    kept = heads_causal.truth(tiny, texts.taken((0, 1, 2)), 2, tmp_path / "t.npz", False)
    assert kept["loss"].shape == kept["logits"].shape == (3, 8)
    assert np.array_equal(first["loss"], kept["loss"][:2])
    again = heads_causal.truth(tiny, texts, 2, tmp_path / "t.npz", True)
    assert np.array_equal(again["loss"], kept["loss"])
    prompts = ReferenceSet(texts.texts[:3], "p", "prompt")
    for name, seed, given in (("loss", "response", texts.taken((0, 1, 2))), ("logits", "contrastive", prompts)):
        expected = attribute(tiny, given, Settings("head", seed=seed), criterion="causal", raw=True)
        flat = torch.cat(list(expected.scores.values()))
        close(torch.from_numpy(kept[name]).quantile(0.5, dim=0), flat, 1e-4)  # a text a part
        close(torch.from_numpy(score(kept[name])).float(), flat, 1e-4)


def test_rank_correlation_and_overlap():
    a = np.array([1.0, 2, 3, 4])
    assert spearman(a, a**3) == pytest.approx(1)
    assert spearman(a, -a) == pytest.approx(-1)
    assert spearman(a, np.array([1.0, 1, 2, 2])) == pytest.approx(2 / 5**0.5)
    assert top_shared(a, np.array([4.0, 1, 2, 3]), 2) == 0.5
    steady = np.tile(np.arange(6.0), (10, 1)).astype(np.float32)
    assert ceiling(steady) == {"half": 1.0, "all": 1.0}


def test_it_runs_from_end_to_end(tiny_folder, data, tmp_path, capsys):  # noqa: F811
    sizes = {
        "data": data,
        "file": None,
        "texts": 5,
        "others": 4,
        "words": 8,
        "at_once": 2,
        "measured_only": False,
        "dtype": "auto",
    }
    main(str(tiny_folder), tmp_path / "o.json", tmp_path / "t.npz", **sizes)
    output = capsys.readouterr().out
    assert "| lrp, response, signed |" in output
    assert output.count("| random, 20 seeds |") == 2
