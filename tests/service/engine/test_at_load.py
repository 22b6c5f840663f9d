"""Masks at load, from every form of checkpoint, and gates in front of packed matrices: one process, many engines."""

from __future__ import annotations

import pytest
import torch

import masks
from tests.service.engine.families import VOCABULARY, crowded, drawn, edited, make, packed, with_older_weights
from tests.service.engine.test_families import answered, said

pytestmark = pytest.mark.engine

ONLINE = "fp8_per_channel"


def as_bin(folder, to):
    """The same checkpoint as a PyTorch ``.bin``."""
    from safetensors.torch import load_file

    to.mkdir()
    for path in folder.iterdir():
        if path.suffix == ".json":
            (to / path.name).write_text(path.read_text())
    torch.save(load_file(folder / "model.safetensors"), to / "pytorch_model.bin")
    return to


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Name of an engine → what it said."""
    folder = tmp_path_factory.mktemp("at-load")
    model = make("llama", folder / "model")
    sharded = make("llama", folder / "sharded", max_shard_size="300KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    mask = drawn(model, "mixed", 1, weights=20, dampened=True)
    assert masks.fingerprint(sharded) == masks.fingerprint(model)
    path = folder / f"{mask.digest}.safetensors"
    masks.save(mask, path)
    options = {"enforce_eager": True, "block_size": 32, "num_gpu_blocks_override": 64}
    load = {"vocabulary": VOCABULARY, "prompts": 4, "variants": 1, "options": options}

    def engine(place, *, dtype="float32", mask=None, **options):
        if mask:
            options |= {
                "load_format": "excise",
                "model_loader_extra_config": {"mask": str(mask)},
                "config_format": "hf",
            }
        return {**load, "model": str(place), "dtype": dtype, "masks": [], "options": {**load["options"], **options}}

    by_hand = edited(model, mask, folder / "by-hand")
    crowd = crowded(model, folder / "crowded")
    engines = {
        "base": engine(model),
        "by hand": engine(by_hand),
        "safetensors": engine(model, mask=path),
        "sharded": engine(sharded, mask=path),
        "bin": engine(as_bin(model, folder / "bin"), mask=path),
        "crowded": engine(crowd, mask=path),
        "crowded, no mask": engine(crowd, load_format="excise", config_format="hf"),
        "older weights, plain vLLM": engine(with_older_weights(model, folder / "older")),
        "online, by hand": engine(by_hand, dtype="bfloat16", quantization=ONLINE),
        "online": engine(model, mask=path, dtype="bfloat16", quantization=ONLINE),
    }
    run = answered(list(engines.values()), folder)
    return dict(zip(engines, run, strict=True))


@pytest.mark.parametrize("form", ["safetensors", "sharded", "bin"])
def test_a_checkpoint_of_any_form_is_masked_as_by_hand(results, form):
    assert said(results[form], 0) == said(results["by hand"], 0)
    assert said(results[form], 0) != said(results["base"], 0)


def test_only_the_files_that_are_the_checkpoint_are_loaded_whatever_lies_beside_them(results):
    assert said(results["crowded, no mask"], 0) == said(results["base"], 0)
    assert said(results["crowded"], 0) == said(results["by hand"], 0)
    assert said(results["older weights, plain vLLM"], 0) != said(results["base"], 0)  # so it matters


def test_online_quantisation_sees_the_masked_weights(results):
    assert said(results["online"], 0) == said(results["online, by hand"], 0)


def test_gates_cut_in_front_of_packed_matrices_as_by_hand(tmp_path):
    model = make("llama", tmp_path / "model")
    four_bits = packed(model, tmp_path / "packed")
    mask = drawn(four_bits, "gates", 2)
    path = tmp_path / f"{mask.digest}.safetensors"
    masks.save(mask, path)
    load = {
        "vocabulary": VOCABULARY,
        "prompts": 4,
        "variants": 2,
        "dtype": "bfloat16",
        "options": {"enforce_eager": True},
    }
    by_hand = {**load, "model": str(packed(model, tmp_path / "by-hand", mask)), "masks": []}
    gated = {**load, "model": str(four_bits), "masks": [str(path)]}
    plain, *rest = answered([by_hand, gated], tmp_path, may_fail=True) or [None]
    log = (tmp_path / "log.txt").read_text()
    if plain is None and "wna16" in log:
        pytest.skip("vLLM has no kernel for 4-bit weights on this processor")
    assert len(rest) == 1, log[-3000:]
    assert said(rest[0], 1) == said(plain, 1)
    assert said(rest[0], 0) != said(rest[0], 1)


def test_a_packed_checkpoint_refuses_a_mask_of_single_weights(tmp_path):
    model = make("llama", tmp_path / "model")
    four_bits = packed(model, tmp_path / "packed")
    mask = drawn(model, "weights", 1, neurons=0, heads=0, weights=5)
    with pytest.raises(masks.MaskError, match="_proj"):
        masks.check(mask, masks.describe(four_bits), masks.parameters(four_bits), allow_other_base=True)
