"""Loading a causal language model, and naming the modules of its decoder layers."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from platform import machine
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

import masks
from correction.errors import ArchitectureError, ModelError
from masks.families import FAMILIES, Family

ADAPTER = "adapter_config.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Block:
    """The modules of one decoder layer; `prefix` is its name in the checkpoint, as `model.layers.0`.

    `mlp` and `gate` are None where the family has none, see `masks.families.Family`.
    """

    index: int
    prefix: str
    layer: nn.Module
    norms: tuple[nn.Module, ...]
    mlp: nn.Module | None
    gate: nn.Module | None
    up: nn.Module
    activation: nn.Module
    down_proj: nn.Linear
    o_proj: nn.Linear


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, its tokenizer, where it lies, and what `masks` needs to know of it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    path: Path
    base: masks.BaseModel
    architecture: Family
    blocks: tuple[Block, ...]

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.model.parameters()).dtype

    @property
    def context_length(self) -> int:
        """Longest sequence that the model takes, in tokens."""
        return int(self.model.config.max_position_embeddings)

    @property
    def norms(self) -> Iterator[nn.Module]:
        """Every normalisation of the decoder, the final one last."""
        for block in self.blocks:
            yield from block.norms
        final = _submodule(self.model, self.architecture.final_norm)
        if final is not None:  # OPT's with the norms after each part have none
            yield final

    @property
    def decoder(self) -> nn.Module:
        """The model without its output head: token ids → last hidden states, normalised."""
        return attrgetter(self.architecture.decoder)(self.model)


def load(model: str | Path, *, dtype: str = "auto", device: str | None = None) -> LoadedModel:
    """Load a local folder or a hub id.

    Args:
        model: A folder with a safetensors checkpoint, or a repository of the Hugging Face hub. An adapter in that
            folder is left out.
        dtype: `auto` keeps the checkpoint's, but takes float32 for bfloat16 on a processor without instructions for it,
            which is several times slower there, if that fits into half of the memory; else a torch type such as
            `float32` or `bfloat16`.
        device: As torch names it; by default the accelerator where there is one.

    Raises:
        ModelError: Nothing to load there, damaged files, a quantised model, or an unknown dtype.
        masks.CheckpointError: no config.json or no checkpoint there, or damaged ones.
        ArchitectureError: Loaded, but of a family that `masks.families` does not list.
    """
    path = _local_folder(str(model))
    wanted = dtype if dtype == "auto" else getattr(torch, dtype, None)
    if wanted != "auto" and not isinstance(wanted, torch.dtype):
        raise ModelError(f"dtype {dtype!r} is not a torch type; use auto, float32, bfloat16 or float16")
    if masks.configuration(path).get("quantization_config"):
        raise ModelError(
            f"the model in {path} is quantised, and relevance needs plain weights; correct the model that it was "
            "quantised from, and serve the mask with --allow-other-base"
        )
    with _read_by_others(path) as folder:
        architecture_of(AutoConfig.from_pretrained(folder))
        masks.parameters(path)  # names a damaged file before anything is loaded
        tokenizer = AutoTokenizer.from_pretrained(folder)
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=wanted, output_loading_info=True)
    network, loading_info = loaded
    if missing := sorted(loading_info["missing_keys"]):
        more = f" and {len(missing) - 1} more tensors" if len(missing) > 1 else ""
        raise ModelError(f"the checkpoint in {path} lacks {missing[0]}{more}; download the model again")
    network.config._name_or_path = str(path)
    network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if (
        dtype == "auto"
        and network.dtype is torch.bfloat16
        and network.device.type == "cpu"
        and not _computes_bfloat16()
    ):
        size = 4 * sum(parameter.numel() for parameter in network.parameters())
        if size < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2:
            network.float()
    return wrap(network, tokenizer, path)


@contextmanager
def _read_by_others(path: Path) -> Iterator[Path]:
    """The model's folder for transformers to read. Any error of theirs becomes a `ModelError`.

    With peft installed, it puts an adapter that lies in the folder into the model. But the mask is made for the
    checkpoint, and vLLM serves that. So it is shown the folder without the adapter.
    """
    try:
        if not (path / ADAPTER).exists():
            yield path
            return
        _log.warning(
            "the adapter in %s is left out, as a server leaves it out: the mask will be for the model without it; to "
            "correct both together, merge it first (peft: merge_and_unload, save_pretrained)",
            path,
        )
        with TemporaryDirectory() as view:
            for file in path.iterdir():
                if file.name != ADAPTER:
                    (Path(view) / file.name).symlink_to(file.resolve())
            yield Path(view)
    except (ModelError, masks.MaskError):
        raise
    except Exception as error:  # of any type: transformers and tokenizers parse files that somebody else wrote
        pointers = [file.name for file in sorted(path.iterdir()) if file.is_file() and masks.is_pointer(file)]
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        if pointers:
            reason = f"{pointers[0]} is git-lfs's pointer to the file; fetch it: git lfs pull, in that folder"
        raise ModelError(f"cannot load the model in {path}: {reason}") from error


def _computes_bfloat16() -> bool:
    """Whether this processor has instructions for it."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()) or machine() == "aarch64"


def wrap(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: str | Path) -> LoadedModel:
    """Describe a model that is already in memory and whose checkpoint lies in the folder `path`.

    Raises:
        ArchitectureError: A family that `masks.families` does not list, or a layer without its modules.
    """
    architecture = architecture_of(model.config)
    model.eval()
    base = masks.describe(path)
    blocks = tuple(_blocks(model, architecture, base.geometry))
    return LoadedModel(model, tokenizer, Path(path), base, architecture, blocks)


def architecture_of(config: Any) -> Family:
    """The family of a Hugging Face config.

    Raises:
        ArchitectureError: There is none for its `model_type`.
    """
    try:
        return FAMILIES[config.model_type]
    except KeyError:
        raise ArchitectureError(
            f"models of type {config.model_type!r} are not supported: LRP has one rule for each kind of module, and "
            f"masks/families.py does not name those of this family; supported: {', '.join(sorted(FAMILIES))}"
        ) from None


def _blocks(model: PreTrainedModel, architecture: Family, geometry: masks.Geometry) -> Iterator[Block]:
    for index, layer in enumerate(attrgetter(architecture.layers)(model)):
        try:
            find = {field: _submodule(layer, getattr(architecture, field)) for field in _OF_A_LAYER}
            norms = tuple(attrgetter(name)(layer) for name in architecture.norms)
        except AttributeError as error:
            raise ArchitectureError(f"layer {index} of this {model.config.model_type} model: {error}") from error
        for field, channels in (("down_proj", geometry.neurons), ("o_proj", geometry.heads * geometry.head_dim)):
            module = find[field]
            if not isinstance(module, nn.Linear) or module.in_features != channels:
                raise ArchitectureError(
                    f"layer {index} of this {model.config.model_type} model: {getattr(architecture, field)} is a "
                    f"{type(module).__name__} with {getattr(module, 'in_features', 'no')} inputs, and must be a plain "
                    f"linear module with {channels}; a quantised model must be loaded from its unquantised checkpoint"
                )
        yield Block(index=index, prefix=f"{architecture.layers}.{index}", layer=layer, norms=norms, **find)


_OF_A_LAYER = ("mlp", "gate", "up", "activation", "down_proj", "o_proj")


def _submodule(module: nn.Module, path: str | None) -> Any:
    return None if path is None else attrgetter(path)(module)


def _local_folder(model: str) -> Path:
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or model.count("/") != 1:
        raise ModelError(f"{model!r} is neither a folder nor a hub id such as 'owner/name'")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
    try:
        return Path(snapshot_download(model, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(f"{model!r} is no folder here, and cannot be had from the hub: {error}") from error
