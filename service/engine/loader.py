"""Masks at load: zero or scale the checkpoint's tensors as they stream into vLLM. Costs nothing afterwards.

Works on the checkpoint's own names and coordinates, before vLLM fuses, shards or quantises anything.
"""

from __future__ import annotations

import copy
from collections.abc import Generator
from pathlib import Path

import torch
from torch import nn
from vllm.config import ModelConfig
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

import masks
from edits.cuts import cut

LOAD_FORMAT = "excise"


class MaskedModelLoader(DefaultModelLoader):
    """vLLM's default loader with a mask applied on the way.

    ``model_loader_extra_config`` = ``{"mask": path}``: a mask file named by its digest.
    """

    applied = ""
    """The digest of the mask that the model of this process was loaded with, once all of it was cut."""

    def __init__(self, load_config: LoadConfig) -> None:
        plain = copy.copy(load_config)
        plain.load_format = "auto"  # the parent accepts only its own formats and options
        plain.model_loader_extra_config = {}
        super().__init__(plain)
        path = Path(load_config.model_loader_extra_config["mask"])
        self.mask = masks.load(path)
        if self.mask.digest != path.stem:
            raise masks.CorruptMask(f"{path} holds mask {self.mask.digest}, not the one that it is named for")

    def get_all_weights(
        self, model_config: ModelConfig, model: nn.Module
    ) -> Generator[tuple[str, torch.Tensor], None, None]:
        """Stream the checkpoint's tensors, masked. Raises ``MaskNotAppliedError`` where part of it was not met."""
        yield from cut(super().get_all_weights(model_config, model), self.mask)
        MaskedModelLoader.applied = self.mask.digest


def register() -> None:
    """Make ``--load-format excise`` known to vLLM in this process. Safe to call more than once."""
    register_model_loader(LOAD_FORMAT)(MaskedModelLoader)
