"""A mask as a PEFT LoRA adapter, which any server that takes adapters can put beside the uncorrected model.

Each module has the rank that its part of the mask needs, by `rank_pattern`, and by `alpha_pattern` every scaling is
one. PEFT reads a pattern in `peft/utils/other.py: get_pattern_key`, vLLM in `vllm/lora/peft_helper.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from edits.errors import NotRepresentableError
from edits.factors import factors
from edits.output_folder import atomic_folder
from edits.places import is_projection, module_of
from masks import Mask, configuration


def write(mask: Mask, model_dir: str | os.PathLike[str], folder: str | os.PathLike[str]) -> dict[str, int]:
    """Write `adapter_config.json` and `adapter_model.safetensors`.

    The factors are exact, in the checkpoint's dtype; a server adds their product to the output of the whole matrix, so
    its results round otherwise than those of a cut matrix.

    Returns:
        Module → rank.

    Raises:
        NotRepresentableError: The mask cuts what is no linear module, or nothing.
        NotWrittenError: `folder` is not empty or cannot be written.
    """
    for name in mask.weights:
        _check_linear(name, Path(model_dir))
    pairs = {module_of(name): (A, B) for name, A, B in factors(mask, model_dir)}
    if not pairs:
        raise NotRepresentableError(
            f"mask {mask.name} cuts nothing that is not zero already, and there is no adapter of rank 0; "
            "serve the model as it is"
        )
    return write_pairs(pairs, mask.meta.base.id, folder, {"excise": mask.digest})


def write_pairs(
    pairs: Mapping[str, tuple[Tensor, Tensor]],
    base: str,
    folder: str | os.PathLike[str],
    made: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Write module → (A, B), with A (rank, inputs) and B (outputs, rank), whose product a server adds to the matrix.

    `made` goes into the header of the file. Returns module → rank; raises `NotWrittenError` as `write` does.
    """
    ranks = {module: len(A) for module, (A, _) in pairs.items()}
    with atomic_folder(Path(folder)) as partial:
        tensors = {}
        for module, (A, B) in pairs.items():
            tensors[f"base_model.model.{module}.lora_A.weight"] = A.contiguous()
            tensors[f"base_model.model.{module}.lora_B.weight"] = B.contiguous()
        save_file(tensors, partial / "adapter_model.safetensors", {"format": "pt", **(made or {})})
        (partial / "adapter_config.json").write_text(json.dumps(_config(base, ranks), indent=2) + "\n")
    return ranks


def _config(base: str, ranks: dict[str, int]) -> dict[str, object]:
    largest = max(ranks.values())
    smaller = {module: rank for module, rank in ranks.items() if rank != largest}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "target_modules": sorted(ranks),
        "r": largest,
        "lora_alpha": largest,
        "rank_pattern": smaller,
        "alpha_pattern": smaller,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


def _check_linear(parameter: str, model_dir: Path) -> None:
    if is_projection(parameter):
        return
    reason = "it is not the matrix of a linear module"
    if parameter == "lm_head.weight":
        config = configuration(model_dir)
        if config.get("tie_word_embeddings") is False:
            return
        reason = 'it is also the embedding (config.json does not say "tie_word_embeddings": false)'
    raise NotRepresentableError(f"an adapter cannot cut {parameter}: {reason}; export a checkpoint instead")
