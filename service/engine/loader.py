"""What vLLM loads: the files that are the checkpoint and no others, and a mask on the way, if one is baked in.

Works on the checkpoint's own names and coordinates, before vLLM fuses, shards or quantises anything. A mask at load
costs nothing afterwards.
"""

from __future__ import annotations

import copy
from collections.abc import Generator
from pathlib import Path

import torch
from torch import nn
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME
from vllm.config import ModelConfig
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

import masks
from edits.cuts import cut_tensors

LOAD_FORMAT = "excise"


class CheckpointLoader(DefaultModelLoader):
    """vLLM's default loader, of the files that `masks.checkpoint_files` names, with a mask applied on the way.

    vLLM's own reads every file of the folder that looks like weights (`*.safetensors`, or `consolidated*`).
    `model_loader_extra_config` = `{"mask": path}`: a mask file named by its digest; `{}`: none.
    """

    applied = ""
    """The digest of the mask that the model of this process was loaded with, once all of it was cut."""

    def __init__(self, load_config: LoadConfig) -> None:
        plain = copy.copy(load_config)
        plain.load_format = "auto"  # the parent accepts only its own formats and options
        plain.model_loader_extra_config = {}
        super().__init__(plain)
        self.mask: masks.Mask | None = None
        if given := load_config.model_loader_extra_config.get("mask"):
            path = Path(given)
            self.mask = masks.load(path)
            if self.mask.digest != path.stem:
                raise masks.CorruptMask(f"{path} holds mask {self.mask.digest}, not the one that it is named for")

    def _prepare_weights(
        self,
        model_name_or_path: str,
        subfolder: str | None,
        revision: str | None,
        fall_back_to_pt: bool,
        allow_patterns_overrides: list[str] | None,
    ) -> tuple[str, list[str], bool, str]:
        """Folder, files, whether they are safetensors, and the name of the index that lists such files."""
        if subfolder is not None or allow_patterns_overrides is not None or not Path(model_name_or_path).is_dir():
            return super()._prepare_weights(
                model_name_or_path, subfolder, revision, fall_back_to_pt, allow_patterns_overrides
            )  # a second source beside the checkpoint, or a draft model from the hub
        checkpoint = masks.checkpoint_files(model_name_or_path)
        files = [str(path) for path in checkpoint.files]
        return model_name_or_path, files, checkpoint.suffix == ".safetensors", SAFE_WEIGHTS_INDEX_NAME

    def get_all_weights(
        self, model_config: ModelConfig, model: nn.Module
    ) -> Generator[tuple[str, torch.Tensor], None, None]:
        """Stream the checkpoint's tensors, masked.

        Raises:
            MaskNotAppliedError: part of the mask was not met in the checkpoint.
        """
        if self.mask is None:
            yield from super().get_all_weights(model_config, model)
            return
        yield from cut_tensors(super().get_all_weights(model_config, model), self.mask)
        CheckpointLoader.applied = self.mask.digest


def register() -> None:
    """Make `--load-format excise` known to vLLM in this process. Safe to call more than once."""
    register_model_loader(LOAD_FORMAT)(CheckpointLoader)
