"""PyTorch checkpoint files for the tests: as torch.save writes them, and forged ones put together by hand."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from tests.masks.samples import CONFIG, tensors

PROTOCOL = b"\x80\x02"
STOP = b"."


def state(arrays: Mapping[str, np.ndarray] | None = None) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in (arrays or tensors()).items()}


def saved(folder: Path, tensors: Mapping[str, torch.Tensor] | None = None) -> Path:
    """A model folder with one pytorch_model.bin."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    torch.save(dict(tensors or state()), folder / "pytorch_model.bin")
    return folder


def saved_in_shards(folder: Path, tensors: Mapping[str, torch.Tensor] | None = None) -> Path:
    """The same in two shards."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    tensors = dict(tensors or state())
    places = {name: f"pytorch_model-0000{1 + i % 2}-of-00002.bin" for i, name in enumerate(tensors)}
    for shard in set(places.values()):
        torch.save({n: t for n, t in tensors.items() if places[n] == shard}, folder / shard)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def archived(path: Path, pickle: bytes, storages: Mapping[str, bytes] | None = None, **entries: bytes) -> Path:
    """A file laid out as torch.save lays it out, around any pickle; `entries` are more of them, by name."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle)
        for name, data in ({"version": b"3\n", "byteorder": b"little"} | entries).items():
            file.writestr(f"archive/{name}", data)
        for key, data in (storages or {}).items():
            file.writestr(f"archive/data/{key}", data)
    return path


def text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + len(raw).to_bytes(4, "little") + raw


def integer(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def tuple_of(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def sizes(*values: int) -> bytes:
    return tuple_of(*map(integer, values))


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def called(function: bytes, *arguments: bytes) -> bytes:
    return function + tuple_of(*arguments) + b"R"


def storage(elements: int, key: str = "0", kind: str = "FloatStorage") -> bytes:
    return tuple_of(text("storage"), named("torch", kind), text(key), text("cpu"), integer(elements)) + b"Q"


REBUILD = named("torch._utils", "_rebuild_tensor_v2")
NO_HOOKS = called(named("collections", "OrderedDict"))


def tensor(
    shape: bytes = sizes(2, 3), strides: bytes = sizes(3, 1), offset: bytes = integer(0), of: bytes | None = None
) -> bytes:
    """The opcodes of a tensor: by default (2, 3), of float32, the whole of storage 0."""
    return called(REBUILD, of or storage(6), offset, shape, strides, b"\x89", NO_HOOKS)


def pickled(**values: bytes) -> bytes:
    """A pickled dict of opcodes by name."""
    return PROTOCOL + b"}(" + b"".join(text(name) + value for name, value in values.items()) + b"u" + STOP
