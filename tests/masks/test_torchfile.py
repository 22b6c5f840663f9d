import importlib
import json
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from masks import (
    CheckpointError,
    ParameterInfo,
    check,
    describe,
    fingerprint,
    for_model,
    parameters,
    torchfile,
)
from masks.limits import MAX_PICKLE_BYTES, MAX_PICKLE_OPCODES
from tests.masks.pytorch import (
    PROTOCOL,
    REBUILD,
    STOP,
    archived,
    called,
    integer,
    named,
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
    state_dict = {"a.weight": raw.view(dtype).reshape(-1, 10), "b": raw[:24].clone().view(dtype)}
    (tmp_path / "safe").mkdir()
    safetensors.torch.save_file(state_dict, tmp_path / "safe" / "model.safetensors")
    folder = saved(tmp_path / "bin", state_dict)
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
    state_dict = model.state_dict() | extra
    torch.save(state_dict, tmp_path / "pytorch_model.bin")
    (tmp_path / "safe").mkdir()
    copies = {name: value.detach().clone() for name, value in state_dict.items()}
    safetensors.torch.save_file(copies, tmp_path / "safe" / "model.safetensors")
    assert parameters(tmp_path) == parameters(tmp_path / "safe")
    assert fingerprint(tmp_path) == fingerprint(tmp_path / "safe")
    assert parameters(tmp_path)["2.num_batches_tracked"] == ParameterInfo((), "I64")


def test_a_tensor_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path) / "pytorch_model.bin"
    for name, stored_tensor in torchfile.tensors(path).items():
        raw = tensors()[name].tobytes()
        assert torchfile.read(stored_tensor, 0, len(raw)) == raw
        assert torchfile.read(stored_tensor, 3, 5) == raw[3:8]


def test_a_large_file_takes_no_memory(tmp_path: Path) -> None:
    # Sparse: it takes no space on disk.
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.zeros(2), "b": torch.zeros(3)}, path)
    program = (
        "import resource, sys, torch, masks\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert masks.parameters(sys.argv[1])['a'].shape == (2**30,)\n"
        "masks.fingerprint(sys.argv[1])\n"
        "assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 200_000\n"
    )
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled(a=tensor(sizes(2**30), sizes(1), of=storage(2**30))))
        file.writestr("archive/version", b"3\n")
        file.writestr("archive/data/0", b"")
        held = file.getinfo("archive/data/0")
        held.file_size = held.compress_size = 2**32
        file.start_dir += 2**32
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=120)


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
    "value",
    [
        *(tensor(offset=integer(each)) for each in (1, 2**62, -1)),
        *(tensor(offset=each) for each in (text("0"), b"N")),
        *(tensor(shape=each) for each in (sizes(3, 3), sizes(-2, -3), sizes(6), integer(6))),
        tensor(sizes(2**62, 2**62), sizes(2**62, 1)),
        tensor(sizes(2**31, 2**31), sizes(0, 0)),
        *(tensor(of=storage(each)) for each in (5, -6)),
        *(tensor(of=storage(6, key=each)) for each in ("1", "../data.pkl", "../../../etc/passwd")),
        text("x"),
        integer(3),
        b"N",
        b"}",
        REBUILD,
        called(named("collections", "OrderedDict"), sizes(1)),
        tensor(of=text("x") + b"Q"),
        tensor()[:-2] + b"}" + text("conj") + b"\x88stR",
    ],
)
def test_what_is_no_tensor_in_the_file_is_refused(value: bytes, tmp_path: Path) -> None:
    forged(tmp_path, pickled(a=value))
    for read in (parameters, fingerprint):
        with pytest.raises(CheckpointError, match=r"pytorch_model\.bin.*save_pretrained"):
            read(tmp_path)


def test_a_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    forged(tmp_path, pickled(**{"\ud800": tensor()}))
    with pytest.raises(CheckpointError, match="not Unicode"):
        parameters(tmp_path)


@pytest.mark.parametrize(
    "raw", [PROTOCOL + text("a") + STOP, PROTOCOL + tensor() + STOP, PROTOCOL + b"}K\x01K\x02s" + STOP]
)
def test_only_a_dict_of_tensors_by_name_is_taken(raw: bytes, tmp_path: Path) -> None:
    forged(tmp_path, raw)
    with pytest.raises(CheckpointError, match=r"tensors by name|flat state dict"):
        parameters(tmp_path)


class Attack:
    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, __import__, torch.load])
def test_a_call_is_refused_and_not_made(function, protocol: int, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    for raw in (
        pickle.dumps({"a": Attack(function, f"touch {witness}")}, protocol),
        pickled(a=tensor(), b=called(named(function.__module__, function.__name__), text(f"touch {witness}"))),
    ):
        forged(tmp_path, raw)
        with pytest.raises(CheckpointError, match=r"refers to|torch\.load"):
            parameters(tmp_path)
    assert not witness.exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins eval",
        "os system",
        "builtins bytearray",
        "torch Tensor",
        "torch._utils _rebuild_sparse_tensor",
        "a" * 5000,
    ],
)
def test_a_name_that_no_state_dict_needs_is_told(name: str, tmp_path: Path) -> None:
    forged(tmp_path, PROTOCOL + f"c{name.replace(' ', chr(10))}\n\n".encode() + STOP)
    with pytest.raises(CheckpointError, match=f"refers to '{name[:250]}.*, which no state dict needs") as raised:
        parameters(tmp_path)
    assert len(str(raised.value)) < 800


def test_every_name_that_is_taken_stands_for_no_function_but_those_that_make_tensors() -> None:
    for name in torchfile.NAMES:
        module, _, last = name.partition(" ")
        attribute = getattr(importlib.import_module(module), last)
        assert isinstance(attribute, type | torch.dtype) or last.startswith("_rebuild_"), name


SIZE = 2**17


@pytest.mark.parametrize(
    "raw",
    [
        PROTOCOL + b"(" * SIZE,
        PROTOCOL + b")" + b"\x85" * SIZE,
        PROTOCOL + named("collections", "OrderedDict") + b"q\0" + b"h\0)R" * (SIZE // 4) + b"0" * SIZE,
        PROTOCOL + b"}" + b"".join(b"r" + i.to_bytes(4, "little") for i in range(SIZE // 2)),
        PROTOCOL + b"\x8b\xff\xff\xff\x7f\x01",
        PROTOCOL + b"\x96" + (2**40).to_bytes(8, "little"),
        PROTOCOL + b"B\xff\xff\xff\xff",
        PROTOCOL + b"\x95" + (2**40).to_bytes(8, "little") + b"}.",
    ],
    ids=["marks", "nested tuples", "calls", "memo", "a huge integer", "a huge bytearray", "huge bytes", "a huge frame"],
)
def test_a_pickle_cannot_allocate_without_bound(raw: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchfile, "MAX_PICKLE_OPCODES", 2**15)
    forged(tmp_path, raw)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            parameters(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**23


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"x" * 1000])
def test_what_is_no_archive_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin.*save_pretrained"):
        parameters(tmp_path)


def test_the_format_of_before_archives_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"of torch before 1\.6.*save_pretrained"):
        parameters(tmp_path)


@pytest.mark.parametrize("compressed", ["archive/data.pkl", "archive/data/0"])
def test_compressed_entries_are_refused(compressed: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as file:
        for name, data in (("archive/data.pkl", pickled(a=tensor())), ("archive/data/0", DATA)):
            file.writestr(name, data, zipfile.ZIP_DEFLATED if name == compressed else zipfile.ZIP_STORED)
    with pytest.raises(CheckpointError, match=f"entry '{compressed}' is compressed"):
        parameters(tmp_path)


@pytest.mark.parametrize("names", [[], ["data.pkl"], ["a/data.pkl", "b/data.pkl"], ["a/data.pkl.txt"]])
def test_there_must_be_one_pickle(names: list[str], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as file:
        for name in ["a/version", *names]:
            file.writestr(name, pickled())
    with pytest.raises(CheckpointError, match=r"named data\.pkl, and must be one"):
        parameters(tmp_path)


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    path = archived(tmp_path / "pytorch_model.bin", pickled(a=tensor()), {"0": DATA, "1": DATA})
    path.write_bytes(path.read_bytes().replace(b"archive/data/1", b"archive/data/0"))
    with pytest.raises(CheckpointError, match="two entries of one name"):
        parameters(tmp_path)


def sparse(path: Path, size: int, entry: str) -> None:
    """An archive with an entry of `size` zeros that take no space on disk."""
    with zipfile.ZipFile(path, "w") as file:
        for name in {"archive/data.pkl", entry}:
            file.writestr(name, b"")
        held = file.getinfo(entry)
        file.start_dir += size + 1000
        held.file_size = held.compress_size = size


def directory(path: Path, size: int) -> None:
    """An archive that claims a directory of that many bytes, which take no space on disk."""
    with open(path, "wb") as file:
        file.write(b"PK\x03\x04")
        file.seek(4 + size)
        file.write(struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, size, 4, 0))


@pytest.mark.parametrize("entry", ["archive/data.pkl", "archive/byteorder", None])
def test_a_huge_pickle_or_directory_is_refused_before_it_is_read(entry: str | None, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    sparse(path, 2**30, entry) if entry else directory(path, 2**30)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=f"over the limit of {MAX_PICKLE_BYTES}"):
            parameters(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_a_transposed_tensor_of_torch_is_refused_with_what_to_do(tmp_path: Path) -> None:
    saved(tmp_path, {"a": torch.zeros(3, 4).T})
    with pytest.raises(CheckpointError, match=r"'a' is not contiguous .*save_pretrained"):
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
    with zipfile.ZipFile(path) as file:
        raw = file.read("pytorch_model/data.pkl")
        assert 30 * sum(46 + len(entry.filename) + len(entry.extra) for entry in file.infolist()) < MAX_PICKLE_BYTES
    assert 30 * len(list(pickletools.genops(raw))) < MAX_PICKLE_OPCODES
    assert 30 * len(raw) < MAX_PICKLE_BYTES


def test_torch_is_imported_only_for_a_file_of_torch(tmp_path: Path) -> None:
    program = """
import sys, masks
sys.modules["torch"] = None
masks.fingerprint(sys.argv[1])
try:
    masks.fingerprint(sys.argv[2])
except masks.CheckpointError as error:
    print(error)
"""
    folders = [str(checkpoint(tmp_path / "safe")), str(saved(tmp_path / "bin"))]
    run = subprocess.run([sys.executable, "-c", program, *folders], capture_output=True, text=True, timeout=60)
    assert "pytorch_model.bin: reading it needs torch" in run.stdout, run.stderr
