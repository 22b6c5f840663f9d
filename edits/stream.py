"""A checkpoint folder's tensors, one after the other: safetensors or PyTorch's `.bin`, one file or several."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open

import masks


def tensors(folder: str | os.PathLike[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor by name, in the order of the files. They are mapped from disk: read where used, and read-only.

    Nothing in a file is executed. The folder is one that `masks.parameters` can read.

    Raises:
        CheckpointError: There is no checkpoint.
    """
    for file in masks.checkpoint_files(folder).files:
        yield from read(file)


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
    """The metadata of a safetensors file; of a `.bin` file, what transformers asks of its successor."""
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as opened:
            return opened.metadata() or {"format": "pt"}
    return {"format": "pt"}
