"""A model's checkpoint folder, read by its headers: parameter names, shapes, dtypes, and a fingerprint of the bytes."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from masks import header, torchfile
from masks.errors import CheckpointError, InvalidMask, MaskTooLarge
from masks.folder import PathLike, checkpoint_files, configuration, existing
from masks.geometry import BaseModel, Geometry
from masks.limits import MAX_CHECKPOINT_HEADER_BYTES, MAX_MODEL_ID

PREAMBLE = b"excise fingerprint 1\n"
SAMPLE = 4096


@dataclass(frozen=True)
class ParameterInfo:
    """Shape and dtype (as safetensors writes it: `F32`, `BF16`, …) of one tensor of a checkpoint."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class _Stored(ParameterInfo):
    """A tensor in a file: `size` bytes, of which `read(first, count)` reads some."""

    name: str
    size: int
    read: Callable[[int, int], bytes]


def parameters(model_dir: PathLike) -> dict[str, ParameterInfo]:
    """Name → `ParameterInfo` of every tensor of a checkpoint, by ascending name; no tensor is loaded.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
    """
    return {each.name: ParameterInfo(each.shape, each.dtype) for each in sorted(_stored(model_dir), key=_by_name)}


def fingerprint(model_dir: PathLike) -> str:
    """Which model a checkpoint is: sha256, 64 hex digits, over names, shapes, dtypes and a sample of every tensor.

    The sample is 4 KiB from the middle of the tensor's bytes, so a fine-tune has another fingerprint, and a folder of
    any size is read in a moment. Sharding and metadata do not enter. The byte encoding is in FORMAT.md. Raises
    `CheckpointError`.
    """
    total = sha256(PREAMBLE)
    for each in sorted(_stored(model_dir), key=_by_name):
        size = min(SAMPLE, each.size)
        sample = each.read((each.size - size) // 2, size)
        if len(sample) != size:
            raise CheckpointError(f"{model_dir}: tensor {each.name!a} ends early; download the model again")
        name, dtype = each.name.encode(), each.dtype.encode()
        total.update(struct.pack("<I", len(name)) + name)
        total.update(struct.pack("<I", len(dtype)) + dtype)
        total.update(struct.pack(f"<I{len(each.shape)}Q", len(each.shape), *each.shape))
        total.update(struct.pack("<I", size) + sample)
    return total.hexdigest()


def describe(model_dir: PathLike, id: str | None = None) -> BaseModel:
    """The `BaseModel` of a checkpoint: geometry and architecture from its config.json, and its fingerprint.

    Without `id` the model is called after its folder; a Hugging Face cache folder gives the repository's name.

    Raises:
        CheckpointError: There is no checkpoint or config.json, or it is damaged.
    """
    folder = existing(model_dir)
    config = configuration(folder)
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise CheckpointError(
            f'{folder}/config.json: "architectures" names no model class; add it, for example ["LlamaForCausalLM"]'
        )
    geometry = Geometry.from_config(config)
    try:
        return BaseModel(id or _called(folder), architectures[0], geometry, fingerprint(folder))
    except InvalidMask as problem:
        raise CheckpointError(f"{folder}: {problem}") from None


def _called(folder: Path) -> str:
    folder = folder.absolute()
    if folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--"):
        return folder.parents[1].name.removeprefix("models--").replace("--", "/")[:MAX_MODEL_ID]
    return folder.resolve().name[:MAX_MODEL_ID] or "model"


def _stored(model_dir: PathLike) -> Iterator[_Stored]:
    """Every tensor of the checkpoint's files."""
    checkpoint = checkpoint_files(model_dir)
    for path in checkpoint.files:
        shard = _bin(path) if checkpoint.suffix == ".bin" else _safetensors(path)
        if checkpoint.index and checkpoint.places is not None:
            listed = {tensor for tensor, place in checkpoint.places.items() if place == path.name}
            if {each.name for each in shard} != listed:
                raise CheckpointError(
                    f"{path}: holds other tensors than {checkpoint.index.name} lists; download the model again"
                )
        yield from shard


def _by_name(tensor: _Stored) -> bytes:
    return tensor.name.encode()


def _safetensors(path: Path) -> list[_Stored]:
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
    return [
        _Stored(each.shape, each.dtype, each.name, each.end - each.start, partial(_read, path, start + each.start))
        for each in entries
    ]


def _read(path: Path, start: int, first: int, count: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        file.seek(start + first)
        return file.read(count)


def _bin(path: Path) -> list[_Stored]:
    return [
        _Stored(tuple(each.shape), torchfile.dtype(each), name, each.nbytes, partial(torchfile.read, each))
        for name, each in torchfile.tensors(path).items()
    ]
