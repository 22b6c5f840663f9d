import json
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from masks import (
    CheckpointError,
    ParameterInfo,
    archive,
    check,
    describe,
    fingerprint,
    for_model,
    parameters,
    torchfile,
)
from masks.limits import MAX_PICKLE_BYTES, MAX_PICKLE_OPCODES
from masks.pickled import Unpickler
from tests.masks.pytorch import (
    archived,
    integer,
    pickled,
    saved,
    saved_in_shards,
    sizes,
    storage,
    tensor,
    text,
)
from tests.masks.samples import GEOMETRY, checkpoint, sharded, tensors

DATA = np.arange(6, dtype=np.float32).tobytes()


def forged(folder: Path, pickle: bytes, data: bytes = DATA) -> Path:
    archived(folder / "pytorch_model.bin", pickle, {"0": data})
    return folder


@pytest.mark.parametrize("write", [saved, saved_in_shards])
def test_a_pytorch_checkpoint_reads_as_the_same_in_safetensors(write, tmp_path: Path) -> None:
    one, other = checkpoint(tmp_path / "one"), write(tmp_path / "other")
    assert parameters(one) == parameters(other)
    assert list(parameters(other)) == sorted(tensors())
    assert fingerprint(one) == fingerprint(other)
    assert describe(one, "tiny") == describe(other, "tiny")
    assert describe(other).geometry == GEOMETRY


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
        *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu),
    ],
    ids=str,
)
def test_every_dtype_has_the_name_and_bytes_that_safetensors_gives_it(dtype: torch.dtype, tmp_path: Path) -> None:
    # Beyond the 4 KiB of the sample, so that its place counts; the second is no whole number of elements of 16 bytes.
    raw = torch.from_numpy(np.random.default_rng(0).integers(0, 2, 24000, np.uint8))
    found = {"a.weight": raw.view(dtype).reshape(-1, 10), "b": raw[:24].clone().view(dtype)}
    (tmp_path / "safe").mkdir()
    safetensors.torch.save_file(found, tmp_path / "safe" / "model.safetensors")
    folder = saved(tmp_path / "bin", found)
    assert parameters(folder) == parameters(tmp_path / "safe")
    assert fingerprint(folder) == fingerprint(tmp_path / "safe")


def test_a_module_with_tied_weights_parameters_and_versions_is_read(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(30, 8), torch.nn.Linear(8, 30, bias=False), torch.nn.BatchNorm1d(30))
    model[1].weight = model[0].weight
    # Views into one storage, a scalar, and a parameter, which torch pickles in another way.
    extra = {
        "head": model[0].weight.data[:4],
        "tail": model[0].weight.data[26:],
        "free": torch.nn.Parameter(torch.ones(3)),
    }
    found = model.state_dict() | extra
    torch.save(found, tmp_path / "pytorch_model.bin")
    (tmp_path / "safe").mkdir()
    apart = {name: value.detach().clone() for name, value in found.items()}
    safetensors.torch.save_file(apart, tmp_path / "safe" / "model.safetensors")
    assert parameters(tmp_path) == parameters(tmp_path / "safe")
    assert fingerprint(tmp_path) == fingerprint(tmp_path / "safe")
    assert parameters(tmp_path)["2.num_batches_tracked"] == ParameterInfo((), "I64")
    places = {entry.name: (entry.start, entry.end) for entry in torchfile.entries(tmp_path / "pytorch_model.bin")}
    start, end = places["0.weight"]
    assert places["1.weight"] == (start, end)
    assert places["head"] == (start, start + 4 * 32)
    assert places["tail"] == (end - 4 * 32, end)


def test_entries_place_the_bytes_in_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path) / "pytorch_model.bin"
    data = path.read_bytes()
    for entry in torchfile.entries(path):
        assert data[entry.start : entry.end] == tensors()[entry.name].tobytes()


def test_a_mask_made_for_one_format_fits_the_other(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    made = for_model(saved(tmp_path / "bin"), "sample", neurons={0: [1]}, weights={name: ([0], [5])})
    assert made.meta.shapes == {name: (40, 24)}
    check(made, describe(checkpoint(tmp_path / "safe")))


def test_safetensors_are_read_where_both_are_there(tmp_path: Path) -> None:
    other = {"a": torch.zeros(3)}
    assert list(parameters(saved(tmp_path / "a", other))) == ["a"]
    assert parameters(checkpoint(tmp_path / "a")) == parameters(checkpoint(tmp_path / "alone"))
    saved(tmp_path / "b", other)
    assert fingerprint(sharded(tmp_path / "b")) == fingerprint(tmp_path / "alone")


@pytest.mark.parametrize("name", ["../a.bin", "/etc/passwd", "..", "", "a\\b.bin", "model-1.safetensors"])
def test_an_index_may_only_name_bin_files_beside_it(name: str, tmp_path: Path) -> None:
    saved_in_shards(tmp_path)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="not the name of a bin file"):
        parameters(tmp_path)


def test_shards_must_be_there_and_hold_what_the_index_lists(tmp_path: Path) -> None:
    shard = saved_in_shards(tmp_path) / "pytorch_model-00002-of-00002.bin"
    torch.save({"other": torch.zeros(1)}, shard)
    with pytest.raises(CheckpointError, match=r"holds other tensors than pytorch_model\.bin\.index\.json"):
        fingerprint(tmp_path)
    shard.unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        fingerprint(tmp_path)


def test_the_forge_makes_what_torch_reads(tmp_path: Path) -> None:
    forged(tmp_path, pickled(a=tensor()))
    read = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    assert torch.equal(read["a"], torch.arange(6.0).reshape(2, 3))
    safetensors.torch.save_file(read, tmp_path / "other.safetensors")
    (tmp_path / "safe").mkdir()
    (tmp_path / "other.safetensors").rename(tmp_path / "safe" / "model.safetensors")
    assert fingerprint(tmp_path) == fingerprint(tmp_path / "safe")


@pytest.mark.parametrize(
    ("shape", "strides"),
    [(sizes(1, 6), sizes(99, 1)), (sizes(6, 1), sizes(1, 5)), (sizes(0, 3), sizes(7, 7)), (sizes(), sizes())],
)
def test_strides_that_say_nothing_are_let_through(shape: bytes, strides: bytes, tmp_path: Path) -> None:
    forged(tmp_path, pickled(a=tensor(shape, strides)))
    assert torch.load(tmp_path / "pytorch_model.bin", weights_only=True)["a"].is_contiguous()
    assert list(parameters(tmp_path)) == ["a"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (tensor(strides=sizes(1, 2)), r"tensor 'a' is not contiguous .*strides \(1, 2\)\); .*save_pretrained"),
        (tensor(strides=sizes(0, 0)), "not contiguous"),
        (tensor(offset=integer(1)), "bytes 4 to 28 of storage '0', which has 24"),
        (tensor(offset=integer(2**62)), "of storage '0', which has 24"),
        (tensor(offset=integer(-1)), "not a size"),
        (tensor(offset=b"\x88"), "not a size"),
        (tensor(offset=text("0")), "not a size"),
        (tensor(shape=sizes(3, 3)), "bytes 0 to 36 of storage"),
        (tensor(sizes(2**62, 2**62), sizes(2**62, 1)), "of storage '0', which has 24"),
        (tensor(shape=sizes(-2, -3)), "shape and strides"),
        (tensor(shape=sizes(6)), "shape and strides"),
        (tensor(sizes(*[1] * 9), sizes(*[1] * 9)), "at most 8"),
        (tensor(shape=integer(6)), "shape and strides"),
        (tensor(of=storage(7)), "storage '0' has 24 bytes, not 28"),
        (tensor(of=storage(2**62)), "storage '0' has 24 bytes, not"),
        (tensor(of=storage(-6)), "not a size"),
        (tensor(of=storage(6, kind="HalfStorage")), "storage '0' has 24 bytes, not 12"),
        (tensor(of=storage(6, key="1")), "storage '1', which the file does not hold"),
        (tensor(of=storage(6, key="../data.pkl")), "which the file does not hold"),
    ],
)
def test_a_tensor_that_claims_what_the_file_does_not_hold_is_named(value: bytes, message: str, tmp_path: Path) -> None:
    forged(tmp_path, pickled(a=value))
    for read in (parameters, fingerprint):
        with pytest.raises(CheckpointError, match=message):
            read(tmp_path)


def test_an_untyped_storage_counts_bytes_and_needs_a_dtype(tmp_path: Path) -> None:
    untyped = storage(24).replace(b"torch\nFloat", b"torch.storage\nUntyped")
    forged(tmp_path, pickled(a=tensor(of=untyped)))
    with pytest.raises(CheckpointError, match="no dtype"):
        parameters(tmp_path)


def test_a_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    forged(tmp_path, pickled(**{"\ud800": tensor()}))
    with pytest.raises(CheckpointError, match="not Unicode"):
        parameters(tmp_path)


def test_a_transposed_tensor_of_torch_is_refused_with_what_to_do(tmp_path: Path) -> None:
    saved(tmp_path, {"a": torch.zeros(3, 4).T})
    with pytest.raises(CheckpointError, match=r"tensor 'a' is not contiguous .*save_pretrained"):
        parameters(tmp_path)


def test_cut_off_anywhere(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": torch.zeros(3)}) / "pytorch_model.bin"
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
            parameters(tmp_path)


def test_every_flipped_byte_is_refused_or_read(tmp_path: Path) -> None:
    path = forged(tmp_path, pickled(a=tensor())) / "pytorch_model.bin"
    data = path.read_bytes()
    for place in range(len(data)):
        for bit in (0x01, 0x10, 0x80):
            changed = bytearray(data)
            changed[place] ^= bit
            path.write_bytes(changed)
            try:
                fingerprint(tmp_path)
            except CheckpointError:
                continue


def test_the_limits_leave_room_for_thirty_thousand_tensors_in_a_file(tmp_path: Path) -> None:
    few = {f"model.layers.{i}.mlp.experts.100.down_proj.weight": torch.zeros(1) for i in range(1000)}
    path = saved(tmp_path, few) / "pytorch_model.bin"
    raw = archive.read(path).pickle
    machine = Unpickler(BytesIO(raw))
    assert len(machine.load()) == len(few)
    assert 30 * machine.steps < MAX_PICKLE_OPCODES
    assert 30 * len(raw) < MAX_PICKLE_BYTES
    with zipfile.ZipFile(path) as file:
        assert 30 * sum(46 + len(entry.filename) + len(entry.extra) for entry in file.infolist()) < MAX_PICKLE_BYTES
