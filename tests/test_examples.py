"""The scripts in examples/ run as they are, on the built-in model, and find what they say."""

from __future__ import annotations

import csv
import re
import runpy
from pathlib import Path

import pytest
import torch

import masks

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def example():
    """A script's ``main`` by its name; the scripts take one thread, and here they give it back."""
    threads = torch.get_num_threads()
    yield lambda name: runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]
    torch.set_num_threads(threads)


def test_every_example_is_run_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"make_a_mask", "find_a_circuit"}


def test_a_mask_takes_most_insults_away_at_hardly_any_cost(example, tmp_path, capsys):
    mask = example("make_a_mask")(tmp_path)
    assert mask.counts == {"neurons": 60, "heads": 0, "weights": 0}
    assert masks.load(tmp_path / "detox.safetensors").digest == mask.digest
    assert (tmp_path / "detox.png").read_bytes().startswith(b"\x89PNG")
    matches = re.findall(r"(\d+) of 50 toxic, perplexity ([\d.]+)", capsys.readouterr().out)
    (toxic, perplexity), (toxic_after, perplexity_after) = [(int(a), float(b)) for a, b in matches]
    assert toxic >= 35
    assert toxic_after <= 10
    assert perplexity_after <= 1.02 * perplexity


def test_a_few_heads_suffice_to_name_a_colour(example, tmp_path, capsys):
    mask = example("find_a_circuit")(tmp_path)
    assert mask.meta.made["circuit"]["kept"] <= 4
    assert mask.counts["heads"] == 24 - mask.meta.made["circuit"]["kept"]
    right, total, *_ = mask.meta.measured["circuit"]["accuracy"]["circuit"]
    assert right >= 0.9 * total
    with (tmp_path / "colours.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 96
    assert (tmp_path / "circuit.html").is_file()
    assert "faithfulness, zero ablation" in capsys.readouterr().out
