"""A compressed model written down: a dense checkpoint that any server loads, or a mask.

The checkpoint is the model's own folder with other values in the matrices, in their dtype; `excise.json` in it says
what was done. Its config names no `sparsity_config`: the zeros are ordinary weights, and nothing gets faster.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import masks
from correction.compression.compress import Compressed
from correction.errors import CompressionError
from correction.models import LoadedModel
from edits.checkpoint_writer import rewrite

PROVENANCE = "excise.json"


def as_mask(loaded: LoadedModel, compressed: Compressed, name: str) -> masks.Mask:
    """The cut weights as a mask.

    Raises:
        CompressionError: Weights that stay were changed too, which no mask can say.
    """
    if compressed.mends:
        method = compressed.made["criterion"]
        raise CompressionError(f"{method} also changes the weights that stay: write a checkpoint, to a folder")
    cut = {parameter: indices for parameter, indices in compressed.cut.items() if indices.size}
    return masks.for_model(loaded.path, name, weights=cut, made=compressed.made)


def write_checkpoint(loaded: LoadedModel, compressed: Compressed, folder: Path) -> dict[str, Any]:
    """Write the model with its compressed matrices into a folder, new or empty; return the content of `excise.json`.

    A weight that was cut is 0, one that was not changed is the checkpoint's own, bit for bit.

    Raises:
        NotWrittenError: Of `edits`, where the folder is in use or cannot be written.
        CompressionError: The checkpoint does not hold a compressed matrix under its name.
    """
    waiting = set(compressed.changed)

    def changed(stream: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in stream:
            if name in waiting:
                waiting.discard(name)
                tensor = _changed(compressed, name, tensor)
            yield name, tensor
        if waiting:
            raise CompressionError(
                f"the checkpoint has no plain matrix {min(waiting)}: is it packed? Use the unquantised checkpoint"
            )

    base = loaded.base
    document = {
        "made_by": "excise compress",
        "base": {"id": base.id, "architecture": base.architecture, "fingerprint": base.fingerprint},
        "made": dict(compressed.made),
        "created_at": masks.meta.now(),
        "cut": {name: int(indices.size) for name, indices in compressed.cut.items()},
        "weights": compressed.total,
        "cut_weights": compressed.count,
    }
    rewrite(loaded.path, folder, changed, more={PROVENANCE: json.dumps(document, indent=2) + "\n"})
    return document


def _changed(compressed: Compressed, name: str, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.shape != compressed.changed[name].shape or not tensor.is_floating_point():
        raise CompressionError(f"{name} is {tensor.dtype} {tuple(tensor.shape)} in the checkpoint, and no plain matrix")
    if compressed.mends:
        return compressed.changed[name].detach().to("cpu", tensor.dtype)
    pruned = tensor.clone()
    indices: np.ndarray = compressed.cut[name]
    pruned.view(-1)[torch.from_numpy(indices)] = 0
    return pruned
