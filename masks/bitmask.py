"""The cut weights of one parameter, in the form that memory and file share.

A set of elements of a parameter with n elements (row-major, element = row * columns + column) is held as

* sorted unique flat indices, int64, or
* where it has strictly more than n/64 elements, a packed bitmask: uint8, ceil(n/8) bytes, element i at bit i % 8
  (bit 0 the least significant) of byte i // 8, unused bits of the last byte zero.

Indices take 64 bits an element of the set and the bitmask one bit an element of the parameter, so each set is in the
smaller of its two forms. The dtype tells which it is.
"""

from typing import cast

import numpy as np
import numpy.typing as npt

from masks.errors import InvalidMask
from masks.limits import DENSITY

Bits = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


def packed_bytes(elements: int) -> int:
    """Bytes of a bitmask over `elements` elements."""
    return (elements + 7) // 8


def is_dense(count: int, elements: int) -> bool:
    """Whether `count` of `elements` elements are stored as a bitmask."""
    return count * DENSITY > elements


def is_packed(cut: npt.NDArray[np.generic]) -> bool:
    """Whether a set is in the bitmask form."""
    return cut.dtype == np.uint8


def pack(indices: npt.NDArray[np.integer], elements: int) -> Bits:
    """The bitmask, uint8 of shape (ceil(elements / 8),), of flat indices inside [0, elements)."""
    flags = np.zeros(elements, np.bool_)
    flags[indices] = True
    return np.packbits(flags, bitorder="little")


def unpack(bits: Bits) -> Indices:
    """The sorted flat indices, int64, of a bitmask; memory grows with its non-zero bytes only."""
    filled = np.flatnonzero(bits)
    row, column = np.nonzero(np.unpackbits(bits[filled], bitorder="little").reshape(-1, 8))
    return (filled[row] * 8 + column).astype(np.int64)


def count(cut: npt.NDArray[np.generic]) -> int:
    """Elements of a set in either form."""
    return int(np.bitwise_count(cast(Bits, cut)).sum(dtype=np.int64)) if is_packed(cut) else cut.size


def check_packed(bits: Bits, elements: int, where: str) -> None:
    """Raise `InvalidMask` unless `bits` is a bitmask over `elements` elements: its length, and its unused bits zero."""
    if bits.shape != (packed_bytes(elements),):
        raise InvalidMask(
            f"{where}: uint8 means a packed bitmask, which has {packed_bytes(elements)} bytes for {elements} elements, "
            f"not shape {list(bits.shape)}; give indices as int64"
        )
    if elements % 8 and int(bits[-1]) >> (elements % 8):
        raise InvalidMask(f"{where}: the bitmask's last byte has bits set beyond element {elements - 1}")


def from_flags(flags: npt.NDArray[np.bool_]) -> Bits | Indices:
    """The canonical form of a boolean array (True is cut)."""
    if is_dense(int(np.count_nonzero(flags)), flags.size):
        return np.packbits(flags.ravel(), bitorder="little")
    return np.flatnonzero(flags).astype(np.int64)


def canonical(cut: npt.NDArray[np.generic], elements: int) -> Bits | Indices:
    """The canonical form of a valid set in either form: indices int64 sorted and unique, or a checked bitmask."""
    dense = is_dense(count(cut), elements)
    if is_packed(cut):
        bits = cast(Bits, cut)
        return bits if dense else unpack(bits)
    indices = cut.astype(np.int64, copy=False)
    return pack(indices, elements) if dense else indices
