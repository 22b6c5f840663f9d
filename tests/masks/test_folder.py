"""Which files of a folder are the checkpoint, whatever else lies there."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from masks import CheckpointError, checkpoint_files, configuration, describe, fingerprint, parameters
from tests.masks.pytorch import saved, saved_in_shards
from tests.masks.samples import checkpoint, sharded, tensors

INDEX = "model.safetensors.index.json"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:5f70bf18\nsize 538090408\n"


def names(folder: Path) -> list[str]:
    return [path.name for path in checkpoint_files(folder).files]


def other(path: Path) -> None:
    """A safetensors file with a tensor of the model's, and one that is not the model's."""
    arrays = {"model.norm.weight": np.ones(24, np.float32), "lm_head.weight": np.ones(3, np.float32)}
    safetensors.numpy.save_file(arrays, path)


def test_the_order_is_that_of_transformers(tmp_path: Path) -> None:
    saved_in_shards(tmp_path)
    assert names(tmp_path) == ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    (tmp_path / "pytorch_model.bin.index.json").unlink()
    saved(tmp_path)
    assert names(tmp_path) == ["pytorch_model.bin"]
    sharded(tmp_path)
    assert names(tmp_path) == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    (tmp_path / INDEX).unlink()
    checkpoint(tmp_path)
    assert names(tmp_path) == ["model.safetensors"]


@pytest.mark.parametrize("form", [checkpoint, sharded, saved])
def test_masks_adapters_and_older_copies_beside_it_are_not_read(form, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = form(tmp_path)
    file_names, digest, listed = names(folder), fingerprint(folder), parameters(folder)
    for name in ("detox.safetensors", "adapter_model.safetensors", "model_old.safetensors", "consolidated.safetensors"):
        other(folder / name)
    (folder / "broken.safetensors").write_bytes(b"\0")
    (folder / "training_args.bin").write_bytes(b"\0")
    assert (names(folder), fingerprint(folder), parameters(folder)) == (file_names, digest, listed)
    beside = [path.name for path in checkpoint_files(folder).others()]
    assert beside[:3] == ["adapter_model.safetensors", "broken.safetensors", "consolidated.safetensors"]
    assert not set(beside) & set(file_names)


def test_a_whole_file_beside_an_index_and_its_files_is_refused_by_name(tmp_path: Path) -> None:
    sharded(tmp_path)
    checkpoint(tmp_path, tensors(seed=1))
    for read in (checkpoint_files, parameters, fingerprint, describe):
        with pytest.raises(CheckpointError, match=r"two checkpoints: model\.safetensors, and model-00001.*move "):
            read(tmp_path)


def test_an_index_left_over_or_of_the_one_file_is_no_second_checkpoint(tmp_path: Path) -> None:
    sharded(tmp_path)
    for shard in tmp_path.glob("model-*.safetensors"):
        shard.unlink()
    checkpoint(tmp_path)
    assert names(tmp_path) == ["model.safetensors"]
    places = dict.fromkeys(tensors(), "model.safetensors")
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": places}))
    assert checkpoint_files(tmp_path).index is None
    assert names(tmp_path) == ["model.safetensors"]


@pytest.mark.parametrize("form", [checkpoint, sharded, saved])
def test_a_git_lfs_pointer_is_told_with_the_command_that_fetches_the_file(form, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = checkpoint_files(form(tmp_path)).files[-1]
    path.write_bytes(POINTER)
    with pytest.raises(CheckpointError, match=rf"{path.name} is git-lfs's pointer.*git lfs pull"):
        fingerprint(tmp_path)
    (tmp_path / "config.json").write_bytes(POINTER)
    with pytest.raises(CheckpointError, match=r"config\.json is git-lfs's pointer"):
        configuration(tmp_path)


def test_a_folder_with_an_adapter_alone_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"an adapter and no model.*merge_and_unload"):
        describe(tmp_path)


def test_a_configuration_that_names_other_weights_is_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path, transformers_weights="model_old.safetensors")
    with pytest.raises(CheckpointError, match="transformers_weights"):
        describe(tmp_path)


def test_a_configuration_with_a_number_of_5000_digits_is_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"vocab_size": ' + "9" * 5000 + "}")
    with pytest.raises(CheckpointError, match="not JSON"):
        configuration(tmp_path)
