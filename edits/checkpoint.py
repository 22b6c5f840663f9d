"""A mask as a corrected checkpoint: the model's own folder with the gates multiplied in, for whatever loads it."""

from __future__ import annotations

import json
import os
import shutil
from itertools import islice
from pathlib import Path

from safetensors.torch import save_file

from edits.cuts import cut
from edits.folder import appearing
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


def write(mask: Mask, model_dir: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Write the checkpoint in ``model_dir`` with the components of ``mask`` set to zero, or dampened.

    It is safetensors, in as many files as the checkpoint has, with their names, dtypes and metadata; `.bin` becomes
    safetensors. Configuration, tokenizer and whatever else lies there are copied, but no other file of weights. Memory:
    about one file of the checkpoint. Raises ``MaskNotAppliedError`` and ``NotRepresentableError`` as `edits.cuts.cut`
    does; ``NotWrittenError`` where ``folder`` is not empty or cannot be written.
    """
    source = Path(model_dir)
    with appearing(Path(folder)) as partial:
        corrected = cut(tensors(source), mask)
        checkpoint = checkpoint_files(source)
        for file in checkpoint.files:
            held = dict(islice(corrected, sum(1 for _ in read(file))))
            if file.suffix == ".bin":  # its tensors may share memory, which safetensors does not write
                held = {name: tensor.clone() for name, tensor in held.items()}
            save_file(held, partial / _renamed(file.name), metadata(file))
        next(corrected, None)  # past the last tensor: raises where a component was not met
        if checkpoint.index:
            document = json.loads(checkpoint.index.read_text())
            document["weight_map"] = {name: _renamed(file) for name, file in document["weight_map"].items()}
            (partial / INDEX).write_text(json.dumps(document, indent=2) + "\n")
        shutil.copytree(source, partial, ignore=shutil.ignore_patterns(*LEFT), dirs_exist_ok=True)


def _renamed(file: str) -> str:
    """Of a file of the checkpoint, the name as safetensors: `pytorch_model-….bin` becomes `model-….safetensors`."""
    stem, suffix = os.path.splitext(file)
    return file if suffix == ".safetensors" else f"{stem.removeprefix('pytorch_')}.safetensors"
