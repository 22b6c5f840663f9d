"""The header of a safetensors file, read as untrusted bytes.

A safetensors file is: 8 bytes with the header's length (little-endian), the header (a JSON object: tensor name →
dtype, shape, offsets into the data), the data. See the format section of the safetensors README.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from masks.document import decode, encode
from masks.errors import MaskError, MaskTooLarge

PREFIX = 8
METADATA = "__metadata__"

# Bits of one element. A dtype that is not listed passes without the check of its size.
BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file: its bytes are data[start:end], counted from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def header_length(prefix: bytes, file_bytes: int, limit: int, where: str, error: type[MaskError]) -> int:
    """Length in bytes of the header, checked against the file and the limit before anything is read or allocated."""
    if len(prefix) < PREFIX:
        raise error(f"{where}: {len(prefix)} bytes is too short for a safetensors file; it may be cut off")
    length = int.from_bytes(prefix[:PREFIX], "little")
    if length > file_bytes - PREFIX:
        raise error(
            f"{where}: bytes 0-7 announce a header of {length} bytes in a file of {file_bytes}; "
            "it is cut off, or not a safetensors file"
        )
    if length > limit:
        raise MaskTooLarge(f"{where}: the header has {length} bytes, over the limit of {limit}")
    return length


def parse(
    raw: bytes, data_bytes: int, where: str, error: type[MaskError], tensors: int | None = None
) -> tuple[dict[str, str], list[TensorEntry]]:
    """Metadata and tensors (ascending by offset) of a header followed by `data_bytes` bytes of data.

    The tensors must cover the data exactly: no gap, no overlap, no rest. Raises `error`, or `MaskTooLarge` with more
    than `tensors` tensors.
    """
    # Each tensor is one object and two lists; then the header itself and its metadata.
    containers = None if tensors is None else 3 * tensors + 2
    header = decode(raw, f"{where}: header", depth=3, containers=containers, error=error)
    if not isinstance(header, dict):
        raise error(f"{where}: the header is not a JSON object")
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise error(f"{where}: header key {METADATA} is not an object of strings")
    if tensors is not None and len(header) > tensors:
        raise MaskTooLarge(f"{where}: {len(header)} tensors, over the limit of {tensors}")
    entries = [_entry(name, value, where, error) for name, value in header.items()]
    entries.sort(key=lambda entry: (entry.start, entry.end))
    position = 0
    for entry in entries:
        if entry.start != position:
            fault = "overlaps the tensor before it" if entry.start < position else "leaves a gap before it"
            raise error(f"{where}: tensor {entry.name!a} starts at data byte {entry.start}, not {position}: it {fault}")
        position = entry.end
    if position != data_bytes:
        raise error(f"{where}: the tensors take {position} bytes of data but the file holds {data_bytes}")
    return metadata, entries


def _entry(name: str, value: Any, where: str, error: type[MaskError]) -> TensorEntry:
    where = f"{where}: tensor {name[:300]!a}"
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise error(f"{where}: the entry must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or not dtype.isascii():
        raise error(f"{where}: dtype is not an ASCII string")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise error(f"{where}: the name is not Unicode text") from None
    if not _sizes(shape) or not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise error(f"{where}: shape and data_offsets must be lists of sizes, the offsets two and ascending")
    start, end = offsets
    if dtype in BITS and prod(shape) * BITS[dtype] != (end - start) * 8:
        raise error(f"{where}: {end - start} bytes do not hold {dtype} of shape {shape}")
    return TensorEntry(name, dtype, tuple(shape), start, end)


def _sizes(value: object) -> bool:
    # `type(...) is int`, because JSON's true is an int to isinstance.
    return isinstance(value, list) and len(value) <= 8 and all(type(n) is int and 0 <= n < 2**63 for n in value)


def canonical(metadata: Mapping[str, str], entries: Sequence[TensorEntry]) -> bytes:
    """The one header, padding included, that a mask file with these tensors has (FORMAT.md, Layout)."""
    parts = [f'"{METADATA}":{encode(dict(metadata))}']
    position = 0
    for entry in sorted(entries, key=lambda entry: (-BITS[entry.dtype], entry.name)):
        end = position + entry.end - entry.start
        place = f'"shape":[{entry.shape[0]}],"data_offsets":[{position},{end}]'
        parts.append(f'{encode(entry.name)}:{{"dtype":"{entry.dtype}",{place}}}')
        position = end
    raw = ("{" + ",".join(parts) + "}").encode()
    return raw + b" " * (-len(raw) % 8)
