"""Mask files: read as untrusted bytes, written atomically. FORMAT.md is the specification.

The reader accepts exactly the bytes that the writer makes: `dumps(loads(data)) == data` for everything that `loads`
lets through, so a digest and a mask stand for each other.
"""

import os
import re
import secrets
import stat
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from masks import bitmask, header
from masks.document import decode
from masks.encoding import KEY
from masks.errors import CorruptMask, InvalidMask, MaskTooLarge
from masks.limits import MAX_DOCUMENT_BYTES, MAX_DOCUMENT_DEPTH, MAX_FILE_BYTES, MAX_HEADER_BYTES, MAX_TENSORS
from masks.mask import Mask
from masks.meta import Meta

LAYER_TENSOR = re.compile(r"(gates\.)?(neurons|heads)\.(0|[1-9][0-9]{0,4})", re.ASCII)


def dumps(mask: Mask) -> bytes:
    """The bytes of a mask's file: the same mask, the same bytes. Raises `MaskTooLarge` over a limit."""
    return mask.dumps()


def loads(data: bytes | bytearray | memoryview) -> Mask:
    """The mask in the bytes of a mask file, which may come from anyone.

    Everything is checked before memory of a claimed size is taken: what is allocated is in proportion to `data`.

    Raises:
        CorruptMask: The bytes are no mask file, or a damaged one.
        MaskTooLarge: Over a limit of the format.
        UnsupportedVersion: A format version that this code does not know.
    """
    view = memoryview(data).cast("B")
    if len(view) > MAX_FILE_BYTES:
        raise MaskTooLarge(f"mask file: {len(view)} bytes, over the limit of {MAX_FILE_BYTES}")
    prefix = view[: header.PREFIX].tobytes()
    length = header.header_length(prefix, len(view), MAX_HEADER_BYTES, "mask file", CorruptMask)
    raw = view[header.PREFIX : header.PREFIX + length].tobytes()
    body = view[header.PREFIX + length :]
    metadata, entries = header.parse(raw, len(body), "mask file", CorruptMask, tensors=MAX_TENSORS)
    try:
        meta, version = _meta(metadata)
        cut: dict[str, dict[Any, npt.NDArray[Any]]] = {"neurons": {}, "heads": {}, "weights": {}}
        gates: dict[str, dict[Any, npt.NDArray[Any]]] = {"neurons": {}, "heads": {}}
        for entry in entries:
            kind, key, coded = _place(entry, meta, version)
            if coded:
                gates[kind][key] = _codes(entry, body)
            else:
                cut[kind][key] = _array(entry, body, kind, key, meta)
        if header.canonical(metadata, entries) != raw:
            raise CorruptMask("header: not in canonical form (key order, spaces, padding); save the mask again")
        mask = Mask(**cut, meta=meta, gates=gates)
    except (CorruptMask, InvalidMask) as problem:
        raise CorruptMask(f"mask file: {problem}") from None
    if mask.version != version:
        raise CorruptMask(f"mask file: format version {version} without gates; a mask that only cuts is version 1")
    if mask.meta.shapes.keys() != meta.shapes.keys():
        unused = sorted(meta.shapes.keys() - mask.meta.shapes.keys())
        raise CorruptMask(f"mask file: document: shapes lists {unused[:3]}, of which no weight is cut; leave them out")
    return mask


def _meta(metadata: dict[str, str]) -> tuple[Meta, int]:
    """The document, and the format version that it claims."""
    if metadata.keys() != {KEY}:
        raise CorruptMask(f"header: the metadata must have exactly the key {KEY!r}; this is not an Excise mask")
    text = metadata[KEY]
    if len(text) > MAX_DOCUMENT_BYTES:
        raise MaskTooLarge(
            f"mask file: the document has {len(text)} characters, over the limit of {MAX_DOCUMENT_BYTES}"
        )
    # `surrogatepass`, so that the text always becomes bytes; the parser refuses what is not UTF-8.
    document = decode(text.encode(errors="surrogatepass"), "document", depth=MAX_DOCUMENT_DEPTH)
    meta = Meta.from_document(document)
    version: int = document["format"]
    if meta.document(version) != text:
        raise CorruptMask("document: not in canonical form (key order, spaces, escapes, numbers); save it again")
    return meta, version


def _place(entry: header.TensorEntry, meta: Meta, version: int) -> tuple[str, int | str, bool]:
    """Which components a tensor holds, or has codes for, by its name; its dtype and shape must fit them."""
    where = f"tensor {entry.name[:300]!a}"
    if match := LAYER_TENSOR.fullmatch(entry.name):
        coded, kind, layer = match[1] is not None, match[2], int(match[3])
        if coded and version == 1:
            raise CorruptMask(f"{where}: format version 1 has no gates; say version 2")
        dtypes, limit = {"U8" if coded else "I32"}, getattr(meta.base.geometry, kind)
        if layer >= meta.base.geometry.layers:
            raise CorruptMask(f"{where}: the model has layers 0 to {meta.base.geometry.layers - 1}")
        place: tuple[str, int | str, bool] = kind, layer, coded
    else:
        kind, _, name = entry.name.partition(".")
        if kind != "weights" or name not in meta.shapes:
            raise CorruptMask(
                f"{where}: must be neurons.<layer> or heads.<layer>, one of these after gates., or weights.<parameter> "
                "with a shape in the document"
            )
        dtypes, limit = {"I64", "U8"}, prod(meta.shapes[name])
        place = kind, name, False
    if entry.dtype not in dtypes:
        raise CorruptMask(f"{where}: dtype is {entry.dtype[:20]!a}, not {' or '.join(sorted(dtypes))}")
    if len(entry.shape) != 1 or not 1 <= entry.shape[0] <= limit:
        raise CorruptMask(f"{where}: shape is {list(entry.shape)}; it must have one dimension, of 1 to {limit}")
    return place


def _codes(entry: header.TensorEntry, body: memoryview) -> npt.NDArray[np.uint8]:
    """The codes of a layer; refused where none of them dampens. The rest is left to `Mask`."""
    codes = np.frombuffer(body[entry.start : entry.end].tobytes(), np.uint8)
    if not codes.any():
        raise CorruptMask(f"tensor {entry.name}: every code is 0; the codes of a layer that is only cut are left out")
    return codes


def _array(
    entry: header.TensorEntry, body: memoryview, kind: str, key: int | str, meta: Meta
) -> npt.NDArray[np.int32] | npt.NDArray[np.int64] | bitmask.Bits:
    """The tensor's values, in their own memory; refused unless canonical. Ranges are left to `Mask`."""
    where = f"tensor {entry.name}"
    # Through bytes: a copy, because `data` may be the caller's to change, and one that `Mask` need not make again.
    values = body[entry.start : entry.end].tobytes()
    elements = prod(meta.shapes[str(key)]) if kind == "weights" else 0
    if entry.dtype == "U8":
        bits = np.frombuffer(values, np.uint8)
        bitmask.check_packed(bits, elements, where)
        if not bitmask.is_dense(bitmask.count(bits), elements):
            raise CorruptMask(f"{where}: a bitmask with at most 1/64 of its bits set; it must be I64 indices")
        return bits
    indices = np.frombuffer(values, "<i8" if entry.dtype == "I64" else "<i4")
    ascending = indices[1:] > indices[:-1]
    if not ascending.all():
        position = int(np.argmin(ascending)) + 1
        pair = indices[position - 1 : position + 1].tolist()
        raise CorruptMask(f"{where}: entries {position - 1} and {position} are {pair}, not ascending")
    if kind == "weights" and bitmask.is_dense(indices.size, elements):
        raise CorruptMask(f"{where}: indices of more than 1/64 of {elements} elements; it must be a U8 bitmask")
    return indices


def save(mask: Mask, path: str | os.PathLike[str]) -> None:
    """Write the mask file at `path`, replacing what is there in one step.

    A reader, or a crash at any moment, finds the old file or the new one, whole. When writing fails the old file
    stays and no other is left behind.

    Raises:
        OSError: The file cannot be written.
        MaskTooLarge: Over a limit of the format.
    """
    path = Path(path)
    data = dumps(mask)
    draft = path.with_name(f".mask-{secrets.token_hex(8)}.tmp")
    try:
        # Exclusive, and unlike `tempfile` with the permissions that the user's umask gives.
        with open(draft, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(path: str | os.PathLike[str]) -> Mask:
    """The mask in the file at `path`.

    Raises:
        OSError: The file cannot be read.
        MaskError: As `loads`.
    """
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(f"{path} is a folder, not a mask file")
    if not stat.S_ISREG(status.st_mode):
        raise CorruptMask(f"{path} is not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise MaskTooLarge(f"{path}: {status.st_size} bytes, over the limit of {MAX_FILE_BYTES}")
    return loads(Path(path).read_bytes())
