"""`excise export`, as a user meets it."""

import json

import pytest
from safetensors.torch import load_file

import masks
from edits.export import export
from tests import forked
from tests.correction.families import save_family
from tests.edits.conftest import as_bin, mask_of


def export_command(*arguments):
    return forked.excise("export", *arguments)


@pytest.fixture
def mask_file(llama, tmp_path):
    masks.save(mask_of(llama, "mixed"), tmp_path / "detox.safetensors")
    return tmp_path / "detox.safetensors"


def test_an_adapter_tells_its_ranks_and_size(llama, mask_file, tmp_path):
    run = export_command(mask_file, "--model", llama, "--format", "peft", "-o", tmp_path / "out", "--json")
    told = json.loads(run.stdout)
    assert told["digest"] == masks.load(mask_file).digest
    assert told["rank"] == max(told["ranks"].values())
    assert told["bytes"] == sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
    pairs = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {len(A) for name, A in pairs.items() if "lora_A" in name} == set(told["ranks"].values())


def test_a_checkpoint_tells_its_size(llama, mask_file, tmp_path):
    run = export_command(mask_file, "--model", llama, "--format", "checkpoint", "-o", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    assert "with mask mixed in it" in run.stdout
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_mistake_is_one_line(llama, mask_file, tmp_path):
    run = export_command(mask_file, "--model", llama, "--format", "peft", "-o", llama)
    assert run.returncode == 1
    assert run.stderr.startswith("excise:")
    assert "there already" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_an_ia3_adapter_tells_what_it_gates(llama, tmp_path):
    mask = masks.for_model(llama, "m", neurons={0: {3: 0.25, 9: 0}}, heads={1: [2]})
    masks.save(mask, tmp_path / "m.safetensors")
    run = export_command(tmp_path / "m.safetensors", "--model", llama, "--format", "ia3", "-o", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    assert "adapter for 10 inputs of 2 modules" in run.stdout
    assert (tmp_path / "out" / "adapter_config.json").is_file()


@pytest.mark.parametrize("form", ["peft", "checkpoint"])
def test_a_mask_for_another_model_is_refused_unless_allowed(llama, tmp_path, form):
    other = save_family("llama", tmp_path / "other", seed=9)
    mask = mask_of(llama, "mixed")
    with pytest.raises(masks.FingerprintMismatch):
        export(mask, other, tmp_path / "out", form)
    assert not (tmp_path / "out").exists()
    export(mask, other, tmp_path / "out", form, allow_other_base=True)
    assert (tmp_path / "out").is_dir()


@pytest.mark.parametrize("form", ["peft", "checkpoint"])
def test_a_bin_checkpoint_will_do(llama, tmp_path, form):
    folder = as_bin(llama, tmp_path / "bin", shards=2)
    written = export(mask_of(folder, "mixed"), folder, tmp_path / "out", form)
    assert written["bytes"] == sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
