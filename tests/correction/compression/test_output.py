"""Compressed models written down, and read again by others."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import masks
from correction.ablation import ablated
from correction.compression import Plan, compress
from correction.compression.output import as_mask, write_checkpoint
from correction.errors import CompressionError
from correction.models import load
from edits.errors import NotWrittenError
from excise import app
from tests.correction.compression.conftest import PASSAGES

IDS = torch.tensor([[1, 8, 17, 30, 9, 22], [1, 14, 6, 25, 11, 3]])


def logits(model):
    with torch.no_grad():
        return model(IDS, use_cache=False).logits


@pytest.fixture(scope="module")
def half_folder(folder, tmp_path_factory):
    """The model as its makers would ship it: in bfloat16."""
    target = tmp_path_factory.mktemp("bfloat16")
    loaded = load(folder, device="cpu")
    loaded.model.to(torch.bfloat16).save_pretrained(target)
    loaded.tokenizer.save_pretrained(target)
    return target


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_plain_transformers_loads_what_was_compressed(model, calibration, tmp_path, method):
    compressed = compress(model, calibration, Plan(method, pattern="2:4"))
    write_checkpoint(model, compressed, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(again), logits(model.model))
    for name, parameter in again.named_parameters():
        if name in compressed.cut:
            groups = (parameter == 0).reshape(-1, 4).sum(1)
            assert (groups == 2).all(), name


def test_the_config_is_the_models_own_and_the_provenance_lies_beside_it(model, calibration, tmp_path):
    compressed = compress(model, calibration, Plan("sparsegpt", 0.5))
    write_checkpoint(model, compressed, tmp_path / "out")
    assert (tmp_path / "out" / "config.json").read_bytes() == (model.path / "config.json").read_bytes()
    assert "sparsity" not in (tmp_path / "out" / "config.json").read_text()
    provenance = json.loads((tmp_path / "out" / "excise.json").read_text())
    assert provenance["base"]["fingerprint"] == masks.fingerprint(model.path)
    assert provenance["made"]["criterion"] == "sparsegpt"
    assert provenance["made"]["compression"] == {
        "method": "sparsegpt",
        "fraction": 0.5,
        "scope": "matrix",
        "sequential": True,
        "damping": 0.01,
        "columns": 128,
    }
    assert provenance["made"]["text"]["windows"] == 8 and provenance["made"]["text"]["window"] == 16
    assert provenance["cut_weights"] * 2 == provenance["weights"] == sum(provenance["cut"].values()) * 2
    assert masks.fingerprint(tmp_path / "out") != masks.fingerprint(model.path)


def test_what_was_not_cut_keeps_its_bits_though_scores_were_made_in_float32(half_folder, texts, tmp_path):
    from correction.compression import calibrate

    loaded = load(half_folder, dtype="float32", device="cpu")
    compressed = compress(loaded, calibrate(loaded, texts, windows=8, window=16), Plan("ria", 0.5))
    write_checkpoint(loaded, compressed, tmp_path / "out")
    before, after = (load_file(each / "model.safetensors") for each in (half_folder, tmp_path / "out"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        expected = tensor.clone()
        expected.view(-1)[torch.from_numpy(compressed.cut.get(name, np.empty(0, np.int64)))] = 0
        assert after[name].dtype == torch.bfloat16 and torch.equal(after[name], expected), name


def test_sparsegpts_zeros_are_zeros_in_bfloat16_too(half_folder, texts, tmp_path):
    from correction.compression import calibrate

    loaded = load(half_folder, dtype="float32", device="cpu")
    compressed = compress(loaded, calibrate(loaded, texts, windows=8, window=16), Plan("sparsegpt", 0.5))
    write_checkpoint(loaded, compressed, tmp_path / "out")
    after = load_file(tmp_path / "out" / "model.safetensors")
    for name, indices in compressed.cut.items():
        assert after[name].dtype == torch.bfloat16
        assert torch.equal(after[name], compressed.changed[name].detach().bfloat16())
        assert (after[name].flatten()[torch.from_numpy(indices)] == 0).all()


def test_a_mask_and_a_checkpoint_of_the_same_cut_say_the_same(model, folder, calibration, tmp_path):
    compressed = compress(model, calibration, Plan("wanda", 0.5))
    mask = as_mask(model, compressed, "half")
    masks.save(mask, tmp_path / "half.safetensors")
    again = masks.load(tmp_path / "half.safetensors")
    assert again.counts["weights"] == compressed.count and again.meta.made["criterion"] == "wanda"
    assert (tmp_path / "half.safetensors").stat().st_size * 8 < 1.1 * compressed.total + 64 * 1024
    plain = load(folder, device="cpu")
    with ablated(plain, again):
        assert torch.equal(logits(plain.model), logits(model.model))


def test_sparsegpt_is_never_a_mask(model, calibration):
    compressed = compress(model, calibration, Plan("sparsegpt", 0.5))
    with pytest.raises(CompressionError, match="also changes the weights that stay: write a checkpoint"):
        as_mask(model, compressed, "half")


def test_a_folder_in_use_is_left_alone(model, calibration, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(NotWrittenError, match="give a new or an empty folder"):
        write_checkpoint(model, compress(model, calibration, Plan("magnitude", 0.5)), tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]


def run(folder, tmp_path, *more):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(PASSAGES))
    command = ["compress", "--model", str(folder), "--text", str(text), "--windows", "8", "--window", "16"]
    return CliRunner().invoke(app, [*command, *more])


def test_the_command_writes_a_checkpoint(folder, tmp_path):
    result = run(folder, tmp_path, "--method", "sparsegpt", "--pattern", "2:4", "-o", str(tmp_path / "out"), "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["cut_weights"] * 2 == document["weights"] and document["made"]["compression"]["pattern"] == "2:4"
    assert {"config.json", "model.safetensors", "excise.json", "tokenizer.json"} <= {
        path.name for path in Path(document["folder"]).iterdir()
    }


def test_the_command_writes_a_mask_that_cuts_half_by_default(folder, tmp_path):
    file = tmp_path / "half.safetensors"
    result = run(folder, tmp_path, "-o", str(file))
    assert result.exit_code == 0, result.output
    mask = masks.load(file)
    assert mask.name == "wanda" and mask.counts["weights"] == 7680 and "50.0%" in result.stdout


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--method", "sparsegpt", "-o", "half.safetensors"), "name a folder"),
        (("--name", "half", "-o", "out"), "a checkpoint has none"),
        (("-o", "tests"), "name a new or an empty folder"),
    ],
)
def test_the_command_refuses_before_the_work(folder, tmp_path, more, words):
    result = run(folder, tmp_path, *more)
    assert result.exit_code == 2
    assert words in " ".join(result.output.replace("│", " ").split())
