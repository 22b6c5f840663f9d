"""Tensors and document to the bytes of a mask file."""

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import safetensors
import safetensors.numpy

from masks import header
from masks.errors import MaskTooLarge
from masks.limits import MAX_FILE_BYTES, MAX_HEADER_BYTES, MAX_TENSORS

KEY = "excise"
DTYPES = {"int64": "I64", "int32": "I32", "uint8": "U8"}


def encode(tensors: Mapping[str, npt.NDArray[Any]], document: str) -> bytes:
    """The file that holds `tensors` (one-dimensional: int64, int32 or uint8) and the document's canonical text.

    Raises:
        MaskTooLarge: Over a limit of the format; raised before the file is built.
    """
    if len(tensors) > MAX_TENSORS:
        raise MaskTooLarge(
            f"the mask has {len(tensors)} tensors, over the limit of {MAX_TENSORS}; cut fewer parameters"
        )
    metadata = {KEY: document}
    expected = header.canonical(
        metadata,
        [header.TensorEntry(name, DTYPES[cut.dtype.name], cut.shape, 0, cut.nbytes) for name, cut in tensors.items()],
    )
    if len(expected) > MAX_HEADER_BYTES:
        raise MaskTooLarge(
            f"the mask's header has {len(expected)} bytes, over the limit of {MAX_HEADER_BYTES}; cut fewer parameters"
        )
    size = header.PREFIX + len(expected) + sum(cut.nbytes for cut in tensors.values())
    if size > MAX_FILE_BYTES:
        raise MaskTooLarge(f"the mask file would have {size} bytes, over the limit of {MAX_FILE_BYTES}")
    data = safetensors.numpy.save(dict(tensors), metadata=metadata)
    if data[header.PREFIX : header.PREFIX + len(expected)] != expected:
        # The digest is the mask's identity, so bytes laid out otherwise must not leave this process.
        raise RuntimeError(
            f"safetensors {safetensors.__version__} orders a file otherwise than masks/FORMAT.md; install 0.5 to 0.8"
        )
    return data
