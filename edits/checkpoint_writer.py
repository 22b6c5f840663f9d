"""A corrected checkpoint: the model's own folder with a mask's gates multiplied in, or other values, for any server."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import save_file

from edits.cuts import cut_tensors
from edits.output_folder import atomic_folder
from edits.stream import metadata, read, tensors
from masks import Mask, checkpoint_files

INDEX = "model.safetensors.index.json"

LEFT = (
    ".*",
    "*.safetensors",
    "*.index.json",
    "*.bin",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.h5",
    "*.msgpack",
    "*.gguf",
    "*.npz",
    "onnx",
    "*.onnx",
    "*.onnx_data",
    "openvino*",
    "*.tflite",
    "*.mlpackage",
    "original",
    "adapter_config.json",
)
"""Not copied: hidden files (of version control, of a download, the folder being written), uncorrected weights, and what
would have an adapter loaded whose weights are left."""


Tensors = Iterator[tuple[str, torch.Tensor]]


def write(mask: Mask, model_dir: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Write the checkpoint in `model_dir` with the components of `mask` set to zero, or dampened.

    Raises:
        MaskNotAppliedError: As `edits.cuts.cut_tensors`.
        NotRepresentableError: As `edits.cuts.cut_tensors`.
        NotWrittenError: As `rewrite`.
    """
    rewrite(model_dir, folder, partial(cut_tensors, mask=mask))


def rewrite(
    model_dir: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    change: Callable[[Tensors], Tensors],
    more: Mapping[str, str] | None = None,
) -> None:
    """Write the checkpoint in `model_dir` with its tensors as `change` passes them on: all, and in their order.

    It is safetensors, in as many files as the checkpoint has, with their names, dtypes and metadata; `.bin` becomes
    safetensors. Configuration, tokenizer and all other files are copied, but no other file of weights;
    `more` are files to write beside, name → text. Memory: about one file of the checkpoint. Raises
    `NotWrittenError` where `folder` is not empty or cannot be written.
    """
    source = Path(model_dir)
    with atomic_folder(Path(folder)) as unseen:
        changed = change(tensors(source))
        checkpoint = checkpoint_files(source)
        for file in checkpoint.files:
            held = dict(islice(changed, sum(1 for _ in read(file))))
            if file.suffix == ".bin":  # its tensors may share memory, which safetensors does not write
                held = {name: tensor.clone() for name, tensor in held.items()}
            save_file(held, unseen / _renamed(file.name), metadata(file))
        next(changed, None)  # past the last tensor: raises where a component was not met
        if checkpoint.index:
            document = json.loads(checkpoint.index.read_text())
            document["weight_map"] = {name: _renamed(file) for name, file in document["weight_map"].items()}
            (unseen / INDEX).write_text(json.dumps(document, indent=2) + "\n")
        shutil.copytree(source, unseen, ignore=shutil.ignore_patterns(*LEFT), dirs_exist_ok=True)
        for name, text in (more or {}).items():
            (unseen / name).write_text(text)


def _renamed(file: str) -> str:
    """Of a file of the checkpoint, the name as safetensors: `pytorch_model-….bin` becomes `model-….safetensors`."""
    stem, suffix = os.path.splitext(file)
    return file if suffix == ".safetensors" else f"{stem.removeprefix('pytorch_')}.safetensors"
