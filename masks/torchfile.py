"""A PyTorch checkpoint file (`pytorch_model.bin`): its tensors, mapped from the file by torch.

`torch.load(weights_only=True)` executes nothing of a file, but a file could make it allocate without bound. So the
archive's directory and its pickle are looked at first: sizes, and the names that the pickle mentions.
"""

import pickletools
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZIP_STORED, ZipFile

from masks.errors import CheckpointError
from masks.limits import MAX_PICKLE_BYTES, MAX_PICKLE_OPCODES

if TYPE_CHECKING:
    from torch import Tensor

MEND = "load the model with transformers and save_pretrained() it: that writes safetensors"

DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "complex64": "C64",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2": "F8_E5M2",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
}
"""torch's name of a dtype → that of safetensors."""

STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "ComplexFloat")
NAMES = {
    "collections OrderedDict",
    *(f"torch._utils _rebuild_{what}" for what in ("tensor_v2", "tensor_v3", "parameter")),
    "torch.storage UntypedStorage",
    *(f"torch {name}Storage" for name in STORAGES),
    *(f"torch {name}" for name in DTYPES),
}
"""What the pickle of a state dict mentions. torch would take more, such as a bytearray of any length."""


class _BoundedFile(FileIO):
    """Refuses to allocate for a read whatever size the file claims for its directory or pickle."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_PICKLE_BYTES:
            raise CheckpointError(f"a directory or pickle of {size} bytes, over the limit of {MAX_PICKLE_BYTES}")
        return super().read(size) or b""


def tensors(path: Path) -> "dict[str, Tensor]":
    """Name → tensor of a state dict that torch.save wrote: contiguous, its values left in the file until they are read.

    Nothing of the file is executed. Raises `CheckpointError`, also for what torch could load: a file of torch before
    1.6, a tensor that is not contiguous, objects other than tensors; and where torch is not installed.
    """
    try:
        import torch
    except ImportError as problem:
        raise CheckpointError(f"{path}: reading it needs torch ({problem}); {MEND}") from None
    try:
        _check_archive(path)
        state_dict = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except CheckpointError as problem:
        raise CheckpointError(f"{path}: {problem}; {MEND}") from None
    except Exception as problem:  # of a damaged file, torch and the standard library raise all kinds
        said = (str(problem).splitlines() or [""])[0][:300]
        raise CheckpointError(
            f"{path} is no state dict that torch.load can map ({type(problem).__name__}: {said}): it is damaged, or of "
            f"torch before 1.6; download it again, or {MEND}"
        ) from None
    if not isinstance(state_dict, dict):
        raise CheckpointError(f"{path}: it holds a {type(state_dict).__name__}, not tensors by name; {MEND}")
    for name, value in state_dict.items():
        _check(name, value, f"{path}: {name!a:.300}")
    return {name: value.detach() for name, value in state_dict.items()}


def dtype(tensor: "Tensor") -> str:
    """As safetensors writes it."""
    return DTYPES[str(tensor.dtype).removeprefix("torch.")]


def read(tensor: "Tensor", first: int, count: int) -> bytes:
    """Some of a tensor's bytes, as they lie in the file."""
    import torch

    return tensor.reshape(-1).view(torch.uint8)[first : first + count].numpy().tobytes()


def _check_archive(path: Path) -> None:
    """Check that the archive is laid out as torch.save lays it out, and its pickle is that of a state dict."""
    with _BoundedFile(path) as file, ZipFile(file) as archive:
        entries = archive.infolist()
        if len({entry.filename for entry in entries}) != len(entries):
            raise CheckpointError("two entries of one name")
        for entry in entries:
            if entry.compress_type != ZIP_STORED or entry.compress_size != entry.file_size:
                raise CheckpointError(f"the entry {entry.filename!a:.300} is compressed, which torch.save never does")
            if "/data/" not in entry.filename and entry.file_size > MAX_PICKLE_BYTES:
                raise CheckpointError(f"{entry.filename!a:.300} is over the limit of {MAX_PICKLE_BYTES} bytes")
        pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError(f"{len(pickles)} entries are named data.pkl, and must be one")
        raw = archive.read(pickles[0])
    for steps, (opcode, argument, _) in enumerate(pickletools.genops(raw)):
        if steps > MAX_PICKLE_OPCODES:
            raise CheckpointError(f"its pickle has more than {MAX_PICKLE_OPCODES} opcodes, over the limit")
        if opcode.name == "GLOBAL" and argument not in NAMES:
            raise CheckpointError(f"it refers to {argument!a:.300}, which no state dict needs; nothing of it was run")


def _check(name: object, value: "object | Tensor", where: str) -> None:
    import torch

    if not isinstance(name, str) or not isinstance(value, torch.Tensor):
        raise CheckpointError(f"{where} is a {type(value).__name__}: this is not a flat state dict; {MEND}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise CheckpointError(f"{where}: the name is not Unicode text; {MEND}") from None
    if str(value.dtype).removeprefix("torch.") not in DTYPES or value.layout != torch.strided or value.is_meta:
        raise CheckpointError(f"{where}: {value.dtype}, {value.layout} is no plain tensor; {MEND}")
    if not value.is_contiguous() or value.is_conj() or value.is_neg():
        raise CheckpointError(
            f"{where} is not contiguous (shape {tuple(value.shape)}, strides {value.stride()}); {MEND}"
        )
