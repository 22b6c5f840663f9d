"""A checkpoint's tensors come in every form that transformers writes or has written, each once."""

import pytest
import torch
from safetensors.torch import load_file

import masks
from edits.stream import metadata, tensors
from masks import checkpoint_files
from tests.correction.families import save_family
from tests.edits.conftest import as_bin, same


def test_one_safetensors_file(llama):
    same(dict(tensors(llama)), load_file(llama / "model.safetensors"))


def test_several_safetensors_files(llama, tmp_path):
    folder = save_family("llama", tmp_path / "sharded", max_shard_size="20KB")
    assert len(checkpoint_files(folder).files) > 2
    assert len(list(tensors(folder))) == len(masks.parameters(folder))
    same(dict(tensors(folder)), dict(tensors(llama)))


@pytest.mark.parametrize("shards", [1, 3])
def test_bin_files(llama, tmp_path, shards):
    folder = as_bin(llama, tmp_path / "bin", shards)
    assert len(checkpoint_files(folder).files) == shards
    same(dict(tensors(folder)), dict(tensors(llama)))


def test_a_bin_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"weight": Exception}, tmp_path / "pytorch_model.bin")
    with pytest.raises(Exception, match="Weights only load failed"):
        list(tensors(tmp_path))


def test_metadata_is_the_files_own_or_what_transformers_asks_for(llama, tmp_path):
    assert metadata(llama / "model.safetensors") == {"format": "pt"}
    assert metadata(as_bin(llama, tmp_path / "bin") / "pytorch_model.bin") == {"format": "pt"}


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(masks.CheckpointError, match="neither"):
        list(tensors(tmp_path))
