"""The corrected checkpoint is the masked model, whoever loads it; nothing half is ever left."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import masks
from edits import checkpoint_writer, peft
from edits.cuts import cut_tensors
from edits.errors import MaskNotAppliedError, NotWrittenError
from edits.stream import metadata, tensors
from tests.correction.families import save_family
from tests.edits.conftest import FAMILIES, KINDS, ablated_logits, as_bin, logits, mask_of, same


def names(folder):
    return [file.name for file in masks.checkpoint_files(folder).files]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_loads_exactly_the_masked_model(models, tmp_path, family, kind):
    folder = models[family]
    mask = mask_of(folder, kind)
    checkpoint_writer.write(mask, folder, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(model), ablated_logits(folder, mask))
    assert not torch.equal(logits(model), ablated_logits(folder, masks.for_model(folder, "none")))


def test_shards_keep_their_names_and_their_index(tmp_path):
    folder = save_family("llama", tmp_path / "in", max_shard_size="20KB")
    mask = mask_of(folder, "mixed")
    checkpoint_writer.write(mask, folder, tmp_path / "out")
    assert names(tmp_path / "out") == names(folder)
    index = "model.safetensors.index.json"
    assert json.loads((tmp_path / "out" / index).read_text()) == json.loads((folder / index).read_text())
    same(dict(tensors(tmp_path / "out")), dict(cut_tensors(tensors(folder), mask)))
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out")), ablated_logits(folder, mask))


def test_tied_embeddings_stay_tied(tmp_path):
    folder = save_family("llama-tied", tmp_path / "in")
    mask = masks.for_model(folder, "m", weights={"model.embed_tokens.weight": [33, 300]}, heads={0: [1]})
    checkpoint_writer.write(mask, folder, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(model), ablated_logits(folder, mask))


def test_dtype_and_metadata_are_kept(llama, tmp_path):
    half = {name: tensor.bfloat16() for name, tensor in tensors(llama)}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "config.json").write_bytes((llama / "config.json").read_bytes())
    save_file(half, tmp_path / "in" / "model.safetensors", {"format": "pt", "made": "by hand"})
    mask = mask_of(tmp_path / "in", "mixed")
    checkpoint_writer.write(mask, tmp_path / "in", tmp_path / "out")
    same(dict(tensors(tmp_path / "out")), dict(cut_tensors(half.items(), mask)))
    assert metadata(tmp_path / "out" / "model.safetensors") == {"format": "pt", "made": "by hand"}


def test_an_empty_mask_copies_the_model_byte_for_byte(llama, tmp_path):
    checkpoint_writer.write(masks.for_model(llama, "m"), llama, tmp_path / "out")
    for file in llama.iterdir():
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()


def test_everything_but_weights_and_hidden_files_is_copied(tmp_path):
    folder = save_family("llama", tmp_path / "in")
    for name in ("pytorch_model.bin", "old/consolidated.00.pth", ".cache/x", "templates/tool.jinja", "model.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    (folder / "linked.txt").symlink_to(folder / "model.py")
    checkpoint_writer.write(mask_of(folder, "neurons"), folder, tmp_path / "out")
    files = {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert files >= {"config.json", "tokenizer.json", "templates/tool.jinja", "model.py", "linked.txt"}
    assert not files & {"pytorch_model.bin", "old/consolidated.00.pth", ".cache/x"}
    assert not (tmp_path / "out" / "linked.txt").is_symlink()
    AutoTokenizer.from_pretrained(tmp_path / "out")


def test_an_adapter_or_older_weights_in_the_folder_are_not_in_the_corrected_model(llama, tmp_path):
    folder = save_family("llama", tmp_path / "in")
    peft.write(masks.for_model(folder, "all", neurons={0: range(48)}), folder, tmp_path / "adapter")
    for file in (tmp_path / "adapter").iterdir():
        file.rename(folder / file.name)
    save_file({"model.norm.weight": torch.zeros(32)}, folder / "model_old.safetensors")
    mask = mask_of(folder, "mixed")
    checkpoint_writer.write(mask, folder, tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {file.name for file in llama.iterdir()}
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out")), ablated_logits(llama, mask))


@pytest.mark.parametrize("shards", [1, 3])
def test_bin_files_become_safetensors(llama, tmp_path, shards):
    mask = mask_of(llama, "mixed")
    folder = as_bin(llama, tmp_path / "in", shards)
    checkpoint_writer.write(mask, folder, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.bin*"))
    same(dict(tensors(tmp_path / "out")), dict(cut_tensors(tensors(folder), mask)))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(model), ablated_logits(llama, mask))


def test_tensors_that_share_memory_in_a_bin_file_are_both_written(tmp_path):
    folder = save_family("llama-tied", tmp_path / "in")
    held = dict(tensors(folder))
    held["lm_head.weight"] = held["model.embed_tokens.weight"]
    mask = mask_of(folder, "neurons")
    torch.save(held, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    checkpoint_writer.write(mask, folder, tmp_path / "out")
    same(dict(tensors(tmp_path / "out")), dict(cut_tensors(held.items(), mask)))


def test_it_may_be_written_below_the_model(tmp_path):
    folder = save_family("llama", tmp_path / "in")
    checkpoint_writer.write(mask_of(folder, "neurons"), folder, folder / "corrected")
    assert not (folder / "corrected" / "corrected").exists()


def test_a_folder_in_use_is_refused_and_left_as_it_is(llama, tmp_path):
    (tmp_path / "out").mkdir()
    checkpoint_writer.write(mask_of(llama, "neurons"), llama, tmp_path / "out")
    before = sorted(tmp_path.rglob("*"))
    for taken in (tmp_path / "out", tmp_path / "out" / "config.json"):
        with pytest.raises(NotWrittenError, match="there already"):
            checkpoint_writer.write(mask_of(llama, "neurons"), llama, taken)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_one_error(llama, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotWrittenError, match="was not written"):
        checkpoint_writer.write(mask_of(llama, "neurons"), llama, tmp_path / "file" / "out")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_nothing(llama, tmp_path, monkeypatch, error):
    def interrupted(tensors, path, metadata):
        path.write_text("half")
        raise error

    monkeypatch.setattr(checkpoint_writer, "save_file", interrupted)
    with pytest.raises((KeyboardInterrupt, NotWrittenError)):
        checkpoint_writer.write(mask_of(llama, "neurons"), llama, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_component_that_was_not_met_leaves_nothing(llama, tmp_path, monkeypatch):
    monkeypatch.setattr("edits.places.neurons_enter", lambda module: None)
    with pytest.raises(MaskNotAppliedError, match="neurons"):
        checkpoint_writer.write(mask_of(llama, "neurons"), llama, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
