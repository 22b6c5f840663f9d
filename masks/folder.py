"""Which files of a model's folder are its checkpoint: decided here, for all who read one.

The order is that of transformers (`modeling_utils.py: _get_resolved_checkpoint_files`): `model.safetensors`, else the
files that `model.safetensors.index.json` lists, else `pytorch_model.bin`, else those that its index lists. Nothing else
in the folder is read as weights: no mask, no adapter, no older copy.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masks.document import decode
from masks.errors import CheckpointError, MaskTooLarge
from masks.limits import MAX_CHECKPOINT_HEADER_BYTES, MAX_CONFIG_BYTES

WHOLE = "model.safetensors"
FORMATS = (WHOLE, "pytorch_model.bin")
"""In the order in which transformers looks for them; beside each, its index of several files."""

OTHER_FORMATS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.h5", "*.msgpack")
POINTER = b"version https://git-lfs"

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class CheckpointFiles:
    """The files that hold a model's weights."""

    files: tuple[Path, ...]
    """By ascending name."""
    index: Path | None
    """What lists them; None where there is but one."""
    places: Mapping[str, str] | None
    """Tensor → name of its file, as the index has it."""

    @property
    def suffix(self) -> str:
        """`.safetensors` or `.bin`, of all of them."""
        return self.files[0].suffix

    def others(self) -> list[Path]:
        """Files beside them that look like weights and are none of them, by ascending name."""
        folder = self.files[0].parent
        weight_files = {path for pattern in ("*.safetensors", f"*{self.suffix}") for path in folder.glob(pattern)}
        return sorted(weight_files - set(self.files))


def checkpoint_files(model_dir: PathLike) -> CheckpointFiles:
    """The files that are the checkpoint of the model in a folder; no tensor and no header of theirs is read.

    Raises:
        CheckpointError: There is none, a file is missing or not downloaded, the index is damaged, or there are two (a
            whole file, and beside it an index whose files are there too), of which different programs read different
            ones.
    """
    folder = existing(model_dir)
    for name in FORMATS:
        whole, index = folder / name, folder / f"{name}.index.json"
        if whole.is_file():
            _check_only(whole, index)
            return CheckpointFiles(_downloaded(whole), None, None)
        if index.is_file():
            places = _listed(index)
            return CheckpointFiles(
                _downloaded(*(folder / file for file in sorted(set(places.values())))), index, places
            )
    other = sorted(path.name for pattern in OTHER_FORMATS for path in folder.glob(pattern))
    raise CheckpointError(
        f"{folder} has neither "
        + " nor ".join(file for name in FORMATS for file in (name, f"{name}.index.json"))
        + (f", only {', '.join(other[:3])}" if other else "")
        + "; load the model with transformers and save_pretrained() it: that writes safetensors"
    )


def configuration(model_dir: PathLike) -> dict[str, Any]:
    """A model's config.json. Raises `CheckpointError` where there is none, or a damaged one."""
    folder = existing(model_dir)
    path = folder / "config.json"
    if path.is_file():
        config = read_object(path, MAX_CONFIG_BYTES)
        if config.get("transformers_weights") is not None:
            raise CheckpointError(
                f'{path}: "transformers_weights" names other files of weights, and only transformers would read them; '
                "load the model with transformers and save_pretrained() it"
            )
        return config
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{folder} holds an adapter and no model (no config.json); merge it into its base model "
            "(peft: merge_and_unload, save_pretrained) and give that folder"
        )
    raise CheckpointError(f"{folder} has no config.json; give the folder of a Hugging Face model")


def existing(model_dir: PathLike) -> Path:
    """The folder. Raises `CheckpointError` where it is none."""
    folder = Path(model_dir)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give a local folder with config.json and {WHOLE}")
    return folder


def read_object(path: Path, limit: int) -> dict[str, Any]:
    """The JSON object in a file of at most `limit` bytes. Raises `CheckpointError`."""
    size = path.stat().st_size
    if size > limit:
        raise CheckpointError(f"{path}: {size} bytes, over the limit of {limit}; this is not such a file")
    _downloaded(path)
    try:
        value = decode(path.read_bytes(), str(path), depth=64, error=CheckpointError)
    except MaskTooLarge as problem:
        raise CheckpointError(str(problem)) from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return value


def is_pointer(path: Path) -> bool:
    """Whether a file is git-lfs's pointer to one that was not downloaded."""
    with open(path, "rb") as file:
        return file.read(len(POINTER)) == POINTER


def _downloaded(*paths: Path) -> tuple[Path, ...]:
    for path in paths:
        if not path.is_file():
            raise CheckpointError(f"{path} is missing; download the model again")
        if is_pointer(path):
            raise CheckpointError(f"{path} is git-lfs's pointer to the file; fetch it: git lfs pull, in that folder")
    return paths


def _listed(index: Path) -> dict[str, str]:
    """Tensor → file name, of an index. The names are of files in its folder."""
    suffix = Path(index.name.removesuffix(".index.json")).suffix
    places = read_object(index, MAX_CHECKPOINT_HEADER_BYTES).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"{index}: weight_map must be an object of tensor name → file name")
    for name in sorted(set(places.values())):
        if "/" in name or "\\" in name or name in ("", ".", "..") or not name.endswith(suffix):
            raise CheckpointError(f"{index}: {name[:300]!a} is not the name of a {suffix[1:]} file in this folder")
    return places


def _check_only(whole: Path, index: Path) -> None:
    """Refuse a second checkpoint: files that an index lists beside a whole one."""
    if not index.is_file():
        return
    second = sorted(name for name in set(_listed(index).values()) - {whole.name} if (index.parent / name).is_file())
    if second:
        raise CheckpointError(
            f"{index.parent} holds two checkpoints: {whole.name}, and {', '.join(second[:3])}"
            f"{', …' if len(second) > 3 else ''}, listed in {index.name}. Some programs read the one, some the other; "
            f"move {whole.name}, or {index.name} and its files, out of the folder"
        )
