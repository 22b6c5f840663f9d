"""The base model of a mask: the sizes that bound every index, and the model's identity."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from masks.errors import CheckpointError, InvalidMask, MaskError, MaskTooLarge
from masks.families import values
from masks.limits import MAX_HEAD_DIM, MAX_HEADS, MAX_HIDDEN, MAX_LAYERS, MAX_MODEL_ID, MAX_NEURONS

LIMITS = {
    "layers": MAX_LAYERS,
    "neurons": MAX_NEURONS,
    "heads": MAX_HEADS,
    "head_dim": MAX_HEAD_DIM,
    "hidden": MAX_HIDDEN,
}

# Our word → the keys of config.json that mean it, in order of trial.
KEYS = {
    "layers": ("num_hidden_layers",),
    "neurons": values("neurons_key"),
    "heads": ("num_attention_heads",),
    "head_dim": ("head_dim",),
    "hidden": ("hidden_size",),
}

FINGERPRINT = re.compile(r"[0-9a-f]{64}", re.ASCII)
ARCHITECTURE = re.compile(r"[A-Za-z0-9_]{1,128}", re.ASCII)


@dataclass(frozen=True)
class Geometry:
    """The sizes of a decoder-only transformer; all at least 1.

    Attributes:
        layers: Decoder layers.
        neurons: Hidden units of one layer's MLP (`intermediate_size`, OPT's `ffn_dim`).
        heads: Query heads of one layer.
        head_dim: Channels of one head.
        hidden: Width of the residual stream.

    Raises:
        InvalidMask: A size that is no positive int.
        MaskTooLarge: A size over a limit.
    """

    layers: int
    neurons: int
    heads: int
    head_dim: int
    hidden: int

    def __post_init__(self) -> None:
        for name, limit in LIMITS.items():
            size = getattr(self, name)
            if type(size) is not int or size < 1:
                raise InvalidMask(f"geometry.{name} is {size!a:.100}; it must be a positive integer")
            if size > limit:
                raise MaskTooLarge(f"geometry.{name} is {size}, over the limit of {limit}")

    @classmethod
    def from_config(cls, config_json: Mapping[str, Any]) -> "Geometry":
        """The geometry in a model's config.json: Llama, Mistral, Qwen2, Qwen3 and their kin, and OPT.

        A missing or null `head_dim` is `hidden_size // num_attention_heads`. A multimodal configuration is read at its
        `text_config`.

        Raises:
            CheckpointError: A key is missing or wrong; the message names it.
        """
        config = config_json
        if "num_hidden_layers" not in config and isinstance(config.get("text_config"), Mapping):
            config = config["text_config"]
        sizes: dict[str, int] = {}
        for name, keys in KEYS.items():
            value = next((config[key] for key in keys if config.get(key) is not None), None)
            if value is None and name == "head_dim":
                continue
            if type(value) is not int or value < 1:
                raise CheckpointError(
                    f"config.json: {' or '.join(keys)} is {value!a:.100}, not a positive integer; Excise reads "
                    "configurations in the manner of Llama, Mistral, Qwen2, Qwen3 and OPT"
                )
            sizes[name] = value
        sizes.setdefault("head_dim", sizes["hidden"] // sizes["heads"])
        try:
            return cls(**sizes)
        except MaskError as problem:
            raise CheckpointError(f"config.json: {problem}") from None

    def __str__(self) -> str:
        return ", ".join(f"{field.name} {getattr(self, field.name)}" for field in fields(self))


@dataclass(frozen=True)
class BaseModel:
    """The model that a mask belongs to.

    Attributes:
        id: What people call it (for example `meta-llama/Llama-3.2-1B`), printable, a label and never a path to open.
        architecture: Its class name (`LlamaForCausalLM`).
        fingerprint: 64 hex digits, see `masks.fingerprint`.

    Raises:
        InvalidMask: One of them is not as described.
    """

    id: str
    architecture: str
    geometry: Geometry
    fingerprint: str

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not 0 < len(self.id) <= MAX_MODEL_ID or not self.id.isprintable():
            raise InvalidMask(f"base.id is {self.id!a:.300}; it must be 1 to {MAX_MODEL_ID} printable characters")
        if not isinstance(self.architecture, str) or not ARCHITECTURE.fullmatch(self.architecture):
            raise InvalidMask(f"base.architecture is {self.architecture!a:.300}; a class name is letters, digits and _")
        if not isinstance(self.geometry, Geometry):
            raise InvalidMask("base.geometry must be a masks.Geometry")
        if not isinstance(self.fingerprint, str) or not FINGERPRINT.fullmatch(self.fingerprint):
            raise InvalidMask(f"base.fingerprint is {self.fingerprint!a:.100}; it must be 64 hexadecimal digits")
