import hashlib
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from masks import CheckpointError, ParameterInfo, describe, fingerprint, parameters
from tests.masks.samples import CONFIG, GEOMETRY, checkpoint, framed, sharded, tensors


def test_parameters_are_read_from_the_headers_in_order(tmp_path: Path) -> None:
    parameter_infos = parameters(checkpoint(tmp_path))
    assert list(parameter_infos) == sorted(tensors())
    assert parameter_infos["model.layers.0.mlp.up_proj.weight"] == ParameterInfo((40, 24), "F16")
    assert parameter_infos["model.nothing"] == ParameterInfo((0, 3), "F32")
    assert parameters(str(tmp_path)) == parameter_infos


def test_the_fingerprint_follows_the_specification(tmp_path: Path) -> None:
    expected = hashlib.sha256(b"excise fingerprint 1\n")
    for name, array in sorted(tensors().items()):
        dtype = {"float32": b"F32", "float16": b"F16"}[array.dtype.name]
        data = array.tobytes()
        size = min(4096, len(data))
        middle = (len(data) - size) // 2
        expected.update(struct.pack("<I", len(name)) + name.encode() + struct.pack("<I", len(dtype)) + dtype)
        expected.update(struct.pack("<I", array.ndim) + b"".join(struct.pack("<Q", n) for n in array.shape))
        expected.update(struct.pack("<I", size) + data[middle : middle + size])
    assert fingerprint(checkpoint(tmp_path)) == expected.hexdigest()


def test_the_fingerprint_never_changes_under_this_format(tmp_path: Path) -> None:
    arrays = {"b.weight": np.arange(3000, dtype=np.int32).reshape(30, 100), "a": np.zeros(2, np.float16)}
    assert (
        fingerprint(checkpoint(tmp_path, arrays)) == "a49c54b020e56f30ea641f6d319b80018c38deb39cff3e31cd2f19fa407240b5"
    )


def test_sharding_does_not_enter(tmp_path: Path) -> None:
    whole, shards = checkpoint(tmp_path / "whole"), sharded(tmp_path / "shards")
    assert fingerprint(whole) == fingerprint(shards)
    assert parameters(whole) == parameters(shards)


def change(name: str, alter: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    arrays = tensors()
    arrays[name] = alter(arrays[name].copy())
    return arrays


def with_byte(position: int) -> Callable[[np.ndarray], np.ndarray]:
    def alter(array: np.ndarray) -> np.ndarray:
        array.view(np.uint8).ravel()[position] ^= 1
        return array

    return alter


@pytest.mark.parametrize(
    ("arrays", "same"),
    [
        (tensors(), True),
        # 9,600 bytes: the sample is bytes 2,752 to 6,847.
        (change("model.embed.weight", with_byte(2752)), False),
        (change("model.embed.weight", with_byte(6847)), False),
        (change("model.embed.weight", with_byte(2751)), True),
        (change("model.embed.weight", with_byte(6848)), True),
        (change("model.norm.weight", with_byte(0)), False),
        (change("model.norm.weight", lambda array: array.reshape(4, 6)), False),
        (change("model.norm.weight", lambda array: array.view(np.int32)), False),
        (change("model.nothing", lambda array: array.reshape(3, 0)), False),
        ({name.replace("norm", "norms"): array for name, array in tensors().items()}, False),
        ({name: array for name, array in tensors().items() if "norm" not in name}, False),
        (tensors(seed=1), False),
    ],
)
def test_the_fingerprint_sees_names_shapes_dtypes_and_the_middle_of_every_tensor(
    arrays: dict[str, np.ndarray], same: bool, tmp_path: Path
) -> None:
    one, other = checkpoint(tmp_path / "one"), checkpoint(tmp_path / "other", arrays)
    assert (fingerprint(one) == fingerprint(other)) is same


def test_the_fingerprint_of_a_large_file_takes_a_moment(tmp_path: Path) -> None:
    # A gibibyte of zeros that takes no space on disk.
    size = 2**30
    header = framed(f'{{"a":{{"dtype":"U8","shape":[{size}],"data_offsets":[0,{size}]}}}}')
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.write(header)
        file.truncate(len(header) + size)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        fingerprint(tmp_path)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05


def test_describe_reads_configuration_and_fingerprint(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "tiny-llama")
    base = describe(folder)
    assert base.id == "tiny-llama"
    assert base.architecture == "LlamaForCausalLM"
    assert base.geometry == GEOMETRY
    assert base.fingerprint == fingerprint(folder)
    assert describe(folder, id="example/tiny").id == "example/tiny"


def test_a_hugging_face_cache_folder_gives_the_name_of_the_repository(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "models--example--tiny-llama" / "snapshots" / "0a1b")
    assert describe(folder).id == "example/tiny-llama"


def test_what_is_no_model_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a folder"):
        fingerprint(tmp_path / "missing")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        describe(tmp_path)
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors"):
        parameters(tmp_path)
    (tmp_path / "consolidated.00.pth").touch()
    with pytest.raises(CheckpointError, match=r"only consolidated\.00\.pth; .*save_pretrained"):
        parameters(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[]", "not a JSON object"),
        ("{", "not JSON"),
        ("[" * 1000, "nested"),
        ("{}", "architectures"),
        (json.dumps(CONFIG | {"architectures": []}), "architectures"),
        (json.dumps(CONFIG | {"architectures": ["../x"]}), "architecture"),
        (json.dumps(CONFIG | {"num_hidden_layers": "3"}), "num_hidden_layers"),
        (" " * (2**24 + 1), "over the limit"),
    ],
)
def test_a_damaged_configuration_is_named(config: str, message: str, tmp_path: Path) -> None:
    checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=message):
        describe(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        b"\0" * 8,
        (2**62).to_bytes(8, "little") + b"{}",
        framed("[]"),
        framed('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', b"1234"),
        framed('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', b"123456789"),
        framed('{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}', b"12345678"),
        framed('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', b"12345678"),
        framed('{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"1234"),
        framed('{"a":{"dtype":"\\u00e9","shape":[1],"data_offsets":[0,4]}}', b"1234"),
        framed('{"a":1,"a":2}'),
        framed("[" * 1000),
        (100_000_001).to_bytes(8, "little"),
    ],
)
def test_a_damaged_checkpoint_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    for read in (parameters, fingerprint):
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            read(tmp_path)


def test_a_dtype_of_the_future_is_let_through(tmp_path: Path) -> None:
    entry = '{"a":{"dtype":"F2","shape":[3],"data_offsets":[0,1]}}'
    (tmp_path / "model.safetensors").write_bytes(framed(entry, b"1"))
    assert parameters(tmp_path) == {"a": ParameterInfo((3,), "F2")}


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "..", "", "a\\b.safetensors", "weights.bin"])
def test_an_index_may_only_name_files_beside_it(name: str, tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="not the name of a safetensors file"):
        parameters(tmp_path)


@pytest.mark.parametrize("index", ["{}", "[]", '{"weight_map":{}}', '{"weight_map":{"a":1}}', '{"weight_map":[]}', "{"])
def test_a_damaged_index_is_refused(index: str, tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=r"index\.json"):
        parameters(tmp_path)


def test_shards_must_be_there_and_hold_what_the_index_lists(tmp_path: Path) -> None:
    shard = sharded(tmp_path) / "model-00001-of-00002.safetensors"
    safetensors.numpy.save_file({"other": np.zeros(1, np.float32)}, shard)
    with pytest.raises(CheckpointError, match="holds other tensors"):
        fingerprint(tmp_path)
    shard.unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        fingerprint(tmp_path)
