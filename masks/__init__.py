"""Masks: small immutable files that say which components of a language model to cut.

>>> mask = masks.for_model("models/llama", "detox", neurons={3: [17, 204]})
>>> masks.save(mask, "detox.safetensors")
>>> masks.load("detox.safetensors").digest == mask.digest
True

FORMAT.md, beside this file, specifies the file.
"""

from masks.checkpoint import ParameterInfo, describe, fingerprint, parameters
from masks.errors import (
    CheckpointError,
    CorruptMask,
    FingerprintMismatch,
    GeometryMismatch,
    InvalidMask,
    MaskError,
    MaskTooLarge,
    UnknownParameter,
    UnsupportedVersion,
)
from masks.file import dumps, load, loads, save
from masks.fit import check
from masks.folder import CheckpointFiles, checkpoint_files, configuration, is_pointer
from masks.geometry import BaseModel, Geometry
from masks.handmade import for_model
from masks.mask import Mask
from masks.meta import Meta

__all__ = [
    "BaseModel",
    "CheckpointError",
    "CheckpointFiles",
    "CorruptMask",
    "FingerprintMismatch",
    "Geometry",
    "GeometryMismatch",
    "InvalidMask",
    "Mask",
    "MaskError",
    "MaskTooLarge",
    "Meta",
    "ParameterInfo",
    "UnknownParameter",
    "UnsupportedVersion",
    "check",
    "checkpoint_files",
    "configuration",
    "describe",
    "dumps",
    "fingerprint",
    "for_model",
    "is_pointer",
    "load",
    "loads",
    "parameters",
    "save",
]
