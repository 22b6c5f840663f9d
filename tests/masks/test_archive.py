import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from masks import CheckpointError, fingerprint, parameters
from masks.archive import read
from masks.limits import MAX_PICKLE_BYTES
from tests.masks.pytorch import archived, pickled, saved, tensor

GOOD = pickled(a=tensor())
DATA = bytes(range(24))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return archived(tmp_path / "pytorch_model.bin", GOOD, {"0": DATA})


def test_an_archive_gives_the_pickle_and_the_places_of_the_storages(path: Path) -> None:
    found = read(path)
    assert found.pickle == GOOD
    assert found.storages.keys() == {"0"}
    start, end = found.storages["0"]
    assert path.read_bytes()[start:end] == DATA


def test_the_padding_of_torch_is_stepped_over(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": torch.arange(6.0)}) / "pytorch_model.bin"
    start, end = read(path).storages["0"]
    assert start % 64 == 0
    assert path.read_bytes()[start:end] == torch.arange(6.0).numpy().tobytes()


def test_entries_beyond_four_gibibytes_are_found(tmp_path: Path) -> None:
    # Sparse: it takes no space on disk.
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", GOOD)
        file.start_dir = 5 * 2**30
        with file.open("archive/data/0", "w", force_zip64=True) as entry:
            entry.write(DATA)
    start, end = read(path).storages["0"]
    assert start > 5 * 2**30
    with open(path, "rb") as raw:
        raw.seek(start)
        assert raw.read(end - start) == DATA
    assert fingerprint(tmp_path) == fingerprint(archived(tmp_path / "near.bin", GOOD, {"0": DATA}).rename(path).parent)


def test_the_legacy_format_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"format of before 1\.6.*save_pretrained"):
        parameters(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"version https://git-lfs.github.com/spec/v1\n", b"PK\x05\x06" + bytes(18)]
)
def test_what_is_no_archive_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"not a file of torch\.save|git lfs pull"):
        parameters(tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("compressed", ["archive/data.pkl", "archive/data/0"])
def test_compressed_entries_are_refused(method: int, compressed: str, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as file:
        for name, data in (("archive/data.pkl", GOOD), ("archive/data/0", DATA)):
            file.writestr(name, data, method if name == compressed else zipfile.ZIP_STORED)
    with pytest.raises(CheckpointError, match=f"entry '{compressed}' is compressed"):
        read(path)


@pytest.mark.parametrize("order", [b"big", b"", b"little\n", b"x" * 100])
def test_another_byte_order_is_refused(order: bytes, tmp_path: Path) -> None:
    path = archived(tmp_path / "pytorch_model.bin", GOOD, {"0": DATA}, byteorder=order)
    with pytest.raises(CheckpointError, match="little-endian"):
        read(path)


def test_an_archive_from_before_the_byte_order_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", GOOD)
        file.writestr("archive/data/0", DATA)
    assert list(parameters(tmp_path)) == ["a"]


@pytest.mark.parametrize(
    "names", [[], ["data.pkl"], ["a/data.pkl", "b/data.pkl"], ["a/b/data.pkl"], ["a/data.pkl.txt"]]
)
def test_there_must_be_one_pickle(names: list[str], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.bin", "w") as file:
        for name in ["a/version", *names]:
            file.writestr(name, GOOD)
    with pytest.raises(CheckpointError, match=r"<folder>/data\.pkl, and must be one"):
        read(tmp_path / "a.bin")


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    path = archived(tmp_path / "a.bin", GOOD, {"0": DATA, "1": DATA})
    path.write_bytes(path.read_bytes().replace(b"archive/data/1", b"archive/data/0"))
    with pytest.raises(CheckpointError, match="two entries of one name"):
        read(path)


def directory_entry(data: bytearray, name: bytes) -> int:
    """Where the central directory has an entry."""
    return data.rindex(name) - 46


def put(form: str, place: int, value: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        struct.pack_into(form, data, directory_entry(data, b"archive/data/0") + place, value)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("<I", 42, 1), "does not begin"),
        (put("<I", 42, 0), "does not begin"),  # the entry of the pickle
        (put("<I", 42, 2**31), "does not begin"),
        (put("<H", 8, 1), "encrypted"),
        (put("<I", 24, 23), "compressed"),
        (put("<H", 10, 77), "compressed"),
        (put("<H", 6, 99), "not a zip archive"),
        (put("<I", 0, 0), "not a zip archive"),
    ],
)
def test_a_directory_that_disagrees_with_the_file_is_refused(
    change: Callable[[bytearray], None], message: str, path: Path
) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        read(path)


@pytest.mark.parametrize("place", [0, 26, 30, 43], ids=["signature", "length of the name", "name", "end of the name"])
def test_an_entry_that_does_not_repeat_its_name_is_refused(place: int, path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"archive/data/0") - 30 + place] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="entry 'archive/data/0': the directory points to byte"):
        read(path)


def test_an_entry_that_ends_outside_the_file_is_refused(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = directory_entry(data, b"archive/data/0")
    struct.pack_into("<II", data, at + 20, 10**6, 10**6)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"entry 'archive/data/0': ends at byte \d+ of a file of"):
        read(path)


def sparse(path: Path, size: int, entry: str) -> None:
    """An archive with an entry of `size` zeros that take no space on disk."""
    with zipfile.ZipFile(path, "w") as file:
        for name in {"archive/data.pkl", entry}:
            file.writestr(name, b"")
        held = file.getinfo(entry)
        file.start_dir += size + 1000
        held.file_size = held.compress_size = size


@pytest.mark.parametrize("entry", ["archive/data.pkl", "archive/byteorder"])
def test_a_huge_pickle_is_refused_before_it_is_read(entry: str, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    sparse(path, 2**30, entry)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=f"over the limit of {MAX_PICKLE_BYTES}"):
            read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_a_huge_directory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    size = 2**30
    with open(path, "wb") as file:
        file.write(b"PK\x03\x04")
        file.seek(4 + size)
        file.write(struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, size, 4, 0))
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="over the limit"):
            read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20
