"""The zip archive that torch.save writes, read as untrusted bytes: where the bytes of each entry lie in the file.

Entries are stored as they are, uncompressed, under one folder: `<folder>/data.pkl`, `<folder>/data/<key>`,
`<folder>/byteorder`. An entry's bytes follow its local header, which repeats the name and may be padded, so that the
central directory alone does not place them (APPNOTE.TXT of the zip format, 4.3.7 and 4.3.12).
"""

import struct
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from masks.errors import CheckpointError, MaskError
from masks.limits import MAX_PICKLE_BYTES
from masks.pickled import MEND

SIGNATURE = b"PK\x03\x04"
LEGACY = b"\x80"  # a bare pickle
LOCAL_HEADER = struct.Struct("<4s22xHH")
ENCRYPTED, UTF8 = 0x1, 0x800
LITTLE_ENDIAN = b"little"

Place = tuple[int, int]
"""First byte in the file, and the byte after the last."""


@dataclass(frozen=True)
class Archive:
    """The pickle of a state dict, and where each storage lies, by its key."""

    pickle: bytes
    storages: dict[str, Place]


class _BoundedFile(FileIO):
    """Refuses to allocate for a read the size that the file claims for its directory, pickle or byte order."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_PICKLE_BYTES:
            raise CheckpointError(
                f"{self.name}: an archive's directory or pickle of {size} bytes, over the limit of {MAX_PICKLE_BYTES}; "
                f"{MEND}"
            )
        return super().read(size) or b""


def read(path: Path) -> Archive:
    """The archive in a file; no storage is read.

    Raises:
        CheckpointError: The format of torch before 1.6, which is no archive; cut off or damaged; an entry that is
            compressed, encrypted, outside the file, or there twice; a pickle over its limit; big-endian values.
    """
    with _BoundedFile(path) as file:
        first = file.read(len(SIGNATURE))
        if first != SIGNATURE:
            fault = "is in torch's format of before 1.6" if first.startswith(LEGACY) else "is not a file of torch.save"
            raise CheckpointError(f"{path} {fault}, which cannot be read without loading it; {MEND}")
        entries = _entries(file, path)
        pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise CheckpointError(f"{path}: {len(pickles)} entries named <folder>/data.pkl, and must be one; {MEND}")
        folder = pickles[0].removesuffix("data.pkl")
        places = {
            name.removeprefix(folder): _place(file, entry, f"{path}: entry {name[:300]!a}")
            for name, entry in entries.items()
            if name.startswith(folder)
        }
        if "byteorder" in places and _bytes(file, places["byteorder"]) != LITTLE_ENDIAN:
            raise CheckpointError(f"{path}: its values are not in little-endian byte order; {MEND}")
        storages = {name.removeprefix("data/"): place for name, place in places.items() if name.startswith("data/")}
        return Archive(_bytes(file, places["data.pkl"]), storages)


def _entries(file: FileIO, path: Path) -> dict[str, ZipInfo]:
    try:
        with ZipFile(file) as archive:
            listed = archive.infolist()
    except MaskError:
        raise
    except (BadZipFile, NotImplementedError, ValueError, OverflowError, OSError, struct.error) as problem:
        raise CheckpointError(f"{path}: not a zip archive ({problem}); it is cut off, download it again") from None
    entries = {entry.filename: entry for entry in listed}
    if len(entries) != len(listed):
        raise CheckpointError(f"{path}: the archive has two entries of one name; download it again")
    return entries


def _place(file: FileIO, entry: ZipInfo, where: str) -> Place:
    if entry.compress_type != ZIP_STORED or entry.flag_bits & ENCRYPTED or entry.compress_size != entry.file_size:
        raise CheckpointError(f"{where} is compressed or encrypted, which torch.save never does; {MEND}")
    name = entry.orig_filename.encode("utf-8" if entry.flag_bits & UTF8 else "cp437")
    header = b""
    if entry.header_offset >= 0:
        header = _bytes(file, (entry.header_offset, entry.header_offset + LOCAL_HEADER.size + len(name)))
    if len(header) != LOCAL_HEADER.size + len(name) or not header.endswith(name):
        raise CheckpointError(f"{where}: the directory points to byte {entry.header_offset}, where it does not begin")
    signature, name_bytes, extra_bytes = LOCAL_HEADER.unpack_from(header)
    if signature != SIGNATURE or name_bytes != len(name):
        raise CheckpointError(f"{where}: the directory points to byte {entry.header_offset}, where it does not begin")
    start = entry.header_offset + len(header) + extra_bytes
    end = start + entry.file_size
    size = file.seek(0, 2)
    if end > size:
        raise CheckpointError(f"{where}: ends at byte {end} of a file of {size}; it is cut off, download it again")
    return start, end


def _bytes(file: FileIO, place: Place) -> bytes:
    start, end = place
    file.seek(start)
    return file.read(end - start)
