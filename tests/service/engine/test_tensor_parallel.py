"""Two tensor-parallel workers on a CPU: gates, factors and masks at load, each rank with its part of every matrix."""

from __future__ import annotations

import pytest

import masks
from tests.service.engine.families import VOCABULARY, drawn, edited, make
from tests.service.engine.test_families import answered, near, said

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Name of an engine → what it said."""
    folder = tmp_path_factory.mktemp("tensor-parallel")
    model = make("llama", folder / "model")
    gates, weights = drawn(model, "gates", 1, heads=3, dampened=True), drawn(model, "weights", 2, weights=15)
    paths = [folder / f"{mask.digest}.safetensors" for mask in (gates, weights)]
    for mask, path in zip((gates, weights), paths, strict=True):
        masks.save(mask, path)
    options = {"enforce_eager": True, "block_size": 32, "tensor_parallel_size": 2}
    at_load = {"load_format": "excise", "model_loader_extra_config": {"mask": str(paths[0])}}
    load = {"vocabulary": VOCABULARY, "prompts": 4, "variants": 3, "masks": [], "options": options}
    engines = {
        "served": {**load, "model": str(model), "masks": list(map(str, paths))},
        "gates, by hand": {**load, "model": str(edited(model, gates, folder / "gates"))},
        "weights, by hand": {**load, "model": str(edited(model, weights, folder / "weights"))},
        "at load": {**load, "model": str(model), "options": {**options, **at_load}},
    }
    run = answered(list(engines.values()), folder)
    return {"counts": (gates.counts, weights.counts), **dict(zip(engines, run, strict=True))}


def test_the_ranks_together_cut_what_the_mask_cuts(results):
    admitted = [one for one in results["served"] if "admitted" in one]
    for report, counts in zip(admitted, results["counts"], strict=True):
        assert report["inputs"] == counts["neurons"] + 32 * counts["heads"]
        assert report["weights"] == counts["weights"]
    assert len(results["served"][-1]["residency"]) == 2


def test_gates_are_exact_on_two_ranks(results):
    assert said(results["served"], 1) == said(results["gates, by hand"], 1)
    assert said(results["served"], 1) != said(results["served"], 0)


def test_a_mask_at_load_is_the_same_on_two_ranks(results):
    assert said(results["at load"], 1) == said(results["gates, by hand"], 1)


def test_single_weights_are_taken_off_on_two_ranks(results):
    assert near(said(results["served"], 2), said(results["weights, by hand"], 2)) < 1e-4
    assert near(said(results["served"], 2), said(results["served"], 0)) > 1e-2
