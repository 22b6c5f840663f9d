"""Which responses are scored, where not all are: a part of the units, always the same part."""

from __future__ import annotations

import hashlib

_PURPOSE = b"excise sampling"  # so that it has nothing to do with any other hash of the unit


def sampled(unit: str, rate: float) -> bool:
    """Whether the responses of `unit` are scored, at a `rate` from 0 to 1.

    The same in every process and after every restart; a unit that is sampled at one rate is at every higher one.
    """
    if rate >= 1:
        return True
    digest = hashlib.blake2b(unit.encode(errors="surrogatepass"), digest_size=8, person=_PURPOSE).digest()
    return int.from_bytes(digest) < rate * 2**64
