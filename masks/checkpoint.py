"""A model's checkpoint folder, read by its headers: parameter names, shapes, dtypes, and a fingerprint of the bytes."""

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Any

from masks import header, torchfile
from masks.document import decode
from masks.errors import CheckpointError, InvalidMask, MaskTooLarge
from masks.geometry import BaseModel, Geometry
from masks.limits import MAX_CHECKPOINT_HEADER_BYTES, MAX_CONFIG_BYTES, MAX_MODEL_ID

WHOLE = "model.safetensors"
OTHER_FORMATS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.h5", "*.msgpack")

PREAMBLE = b"excise fingerprint 1\n"
SAMPLE = 4096

PathLike = str | os.PathLike[str]
Shard = tuple[Path, int, list[header.TensorEntry]]


@dataclass(frozen=True)
class ParameterInfo:
    """Shape and dtype (as safetensors writes it: `F32`, `BF16`, …) of one tensor of a checkpoint."""

    shape: tuple[int, ...]
    dtype: str


def parameters(model_dir: PathLike) -> dict[str, ParameterInfo]:
    """Name → `ParameterInfo` of every tensor of a checkpoint, by ascending name; no tensor is loaded.

    Raises `CheckpointError`.
    """
    entries = [entry for _, _, shard in _shards(_folder(model_dir)) for entry in shard]
    entries.sort(key=lambda entry: entry.name)
    return {entry.name: ParameterInfo(entry.shape, entry.dtype) for entry in entries}


def fingerprint(model_dir: PathLike) -> str:
    """Which model a checkpoint is: sha256, 64 hex digits, over names, shapes, dtypes and a sample of every tensor.

    The sample is 4 KiB from the middle of the tensor's bytes, so a fine-tune has another fingerprint, and a folder of
    any size is read in a moment. Sharding and metadata do not enter. The byte encoding is in FORMAT.md. Raises
    `CheckpointError`.
    """
    total = sha256(PREAMBLE)
    with ExitStack() as opened:
        places: list[tuple[header.TensorEntry, FileIO, int]] = []
        for path, start, shard in _shards(_folder(model_dir)):
            file = opened.enter_context(open(path, "rb", buffering=0))
            places += [(entry, file, start) for entry in shard]
        for entry, file, start in sorted(places, key=lambda place: place[0].name.encode()):
            size = min(SAMPLE, entry.end - entry.start)
            file.seek(start + entry.start + (entry.end - entry.start - size) // 2)
            sample = file.read(size)
            if len(sample) != size:
                raise CheckpointError(f"{file.name}: tensor {entry.name!a} ends early; download the model again")
            name, dtype = entry.name.encode(), entry.dtype.encode()
            total.update(struct.pack("<I", len(name)) + name)
            total.update(struct.pack("<I", len(dtype)) + dtype)
            total.update(struct.pack(f"<I{len(entry.shape)}Q", len(entry.shape), *entry.shape))
            total.update(struct.pack("<I", size) + sample)
    return total.hexdigest()


def describe(model_dir: PathLike, id: str | None = None) -> BaseModel:
    """The `BaseModel` of a checkpoint: geometry and architecture from its config.json, and its fingerprint.

    Without `id` the model is called after its folder; a Hugging Face cache folder gives the repository's name.
    Raises `CheckpointError`.
    """
    folder = _folder(model_dir)
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} has no config.json; give the folder of a Hugging Face model")
    config = _json(path, MAX_CONFIG_BYTES)
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise CheckpointError(f'{path}: "architectures" names no model class; add it, for example ["LlamaForCausalLM"]')
    geometry = Geometry.from_config(config)
    try:
        return BaseModel(id or _called(folder), architectures[0], geometry, fingerprint(folder))
    except InvalidMask as problem:
        raise CheckpointError(f"{folder}: {problem}") from None


def _folder(model_dir: PathLike) -> Path:
    folder = Path(model_dir)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give a local folder with config.json and {WHOLE}")
    return folder


def _called(folder: Path) -> str:
    folder = folder.absolute()
    if folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--"):
        return folder.parents[1].name.removeprefix("models--").replace("--", "/")[:MAX_MODEL_ID]
    return folder.resolve().name[:MAX_MODEL_ID] or "model"


def _json(path: Path, limit: int) -> dict[str, Any]:
    size = path.stat().st_size
    if size > limit:
        raise CheckpointError(f"{path}: {size} bytes, over the limit of {limit}; this is not such a file")
    try:
        value = decode(path.read_bytes(), str(path), depth=64, error=CheckpointError)
    except MaskTooLarge as problem:
        raise CheckpointError(str(problem)) from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return value


def _shards(folder: Path) -> Iterator[Shard]:
    """Each file of the checkpoint: path, where its data begins, its tensors."""
    for form in FORMATS:
        if (folder / form.whole).is_file():
            yield form.read(folder / form.whole)
            return
        if (folder / form.index).is_file():
            yield from _indexed(folder / form.index, form)
            return
    other = sorted(path.name for pattern in OTHER_FORMATS for path in folder.glob(pattern))
    raise CheckpointError(
        f"{folder} has neither "
        + " nor ".join(name for form in FORMATS for name in (form.whole, form.index))
        + (f", only {', '.join(other[:3])}" if other else "")
        + "; load the model with transformers and save_pretrained() it: that writes safetensors"
    )


def _indexed(index: Path, form: "Format") -> Iterator[Shard]:
    places = _json(index, MAX_CHECKPOINT_HEADER_BYTES).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"{index}: weight_map must be an object of tensor name → file name")
    for name in sorted(set(places.values())):
        if "/" in name or "\\" in name or name in ("", ".", "..") or not name.endswith(f".{form.suffix}"):
            raise CheckpointError(f"{index}: {name[:300]!a} is not the name of a {form.suffix} file in this folder")
        shard = index.parent / name
        if not shard.is_file():
            raise CheckpointError(f"{shard} is missing; download the model again")
        path, start, entries = form.read(shard)
        if {entry.name for entry in entries} != {tensor for tensor, place in places.items() if place == name}:
            raise CheckpointError(f"{path}: holds other tensors than {index.name} lists; download the model again")
        yield path, start, entries


def _safetensors(path: Path) -> Shard:
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            prefix = file.read(header.PREFIX)
            length = header.header_length(prefix, size, MAX_CHECKPOINT_HEADER_BYTES, str(path), CheckpointError)
            raw = file.read(length)
        start = header.PREFIX + length
        _, entries = header.parse(raw, size - start, str(path), CheckpointError)
    except MaskTooLarge as problem:
        raise CheckpointError(str(problem)) from None
    return path, start, entries


def _bin(path: Path) -> Shard:
    return path, 0, torchfile.entries(path)


@dataclass(frozen=True)
class Format:
    """A way in which a folder holds a checkpoint: as one file, or as an index and the files that it lists."""

    whole: str
    index: str
    suffix: str
    read: Callable[[Path], Shard]


FORMATS = (
    Format(WHOLE, f"{WHOLE}.index.json", "safetensors", _safetensors),
    Format("pytorch_model.bin", "pytorch_model.bin.index.json", "bin", _bin),
)
"""In the order in which transformers looks for them."""
