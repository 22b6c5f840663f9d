"""A checkpoint folder's tensors, one after the other: safetensors or PyTorch's `.bin`, one file or several."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from masks import CheckpointError

WHOLE = ("model.safetensors", "pytorch_model.bin")
"""In the order in which transformers looks for them; beside each, its index of several files."""


def tensors(folder: str | os.PathLike[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor by name, in the order of the files. They are mapped from disk: read where used, and read-only.

    Nothing in a file is executed. The folder is one that `masks.parameters` can read. Raises ``CheckpointError`` where
    there is no checkpoint.
    """
    for file in files(folder):
        yield from read(file)


def files(folder: str | os.PathLike[str]) -> list[Path]:
    """The files that hold the checkpoint, sorted."""
    folder = Path(folder)
    if listed := index(folder):
        return [folder / file for file in sorted(set(json.loads(listed.read_text())["weight_map"].values()))]
    return [folder / next(name for name in WHOLE if (folder / name).is_file())]


def index(folder: Path) -> Path | None:
    """The index of the files; None where the checkpoint is a single one."""
    for name in WHOLE:
        if (folder / name).is_file():
            return None
        if (listed := folder / f"{name}.index.json").is_file():
            return listed
    raise CheckpointError(f"{folder} has neither {' nor '.join(WHOLE)}, nor an index of several such files")


def read(file: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of one file."""
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (it is no dict)
                yield name, opened.get_tensor(name)
    else:
        for name, tensor in torch.load(file, map_location="cpu", weights_only=True, mmap=True).items():
            yield name, tensor.detach()


def metadata(file: Path) -> dict[str, str]:
    """What a safetensors file says of itself; of a `.bin` file, what transformers asks of its successor."""
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as opened:
            return opened.metadata() or {"format": "pt"}
    return {"format": "pt"}
