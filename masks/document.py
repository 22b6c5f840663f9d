"""The JSON of a mask: one value has one text, and values read back cannot be changed.

Canonical text: ASCII (everything else escaped), keys sorted by code point, no spaces, numbers as Python writes them,
no NaN or infinity.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import numpy as np

from masks.errors import CorruptMask, InvalidMask, MaskError, MaskTooLarge
from masks.limits import MAX_DOCUMENT_DEPTH

K = TypeVar("K")
V = TypeVar("V")

# Possessive, so that a long string costs no backtracking memory.
STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)

SMALLEST, LARGEST = -(2**63), 2**64 - 1


def _refuse(self: object, *args: object, **kwargs: object) -> NoReturn:
    raise TypeError("a mask is immutable: make a changed copy, for example with mask.with_meta(measured={...})")


class FrozenDict(dict[K, V]):
    """A dict that refuses to change; reads, compares and serialises as a dict does."""

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


class FrozenList(list[V]):
    """A list that refuses to change; reads, compares and serialises as a list does."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = remove = pop = clear = sort = reverse = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self),)


def freeze(value: Any, where: str, depth: int = MAX_DOCUMENT_DEPTH) -> Any:
    """Make a deep, immutable copy of a JSON value.

    Args:
        value: None, bool, str, int in [-2**63, 2**64), finite float, a NumPy scalar of these, or a list, tuple or
            mapping with string keys of them.
        where: Name of the value, for messages.
        depth: Most levels of nesting.

    Raises:
        InvalidMask: The value is anything else.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, int):
        return _integer(value, where)
    if isinstance(value, float):
        return _float(value, where)
    if not isinstance(value, Mapping | list | tuple):
        raise InvalidMask(
            f"{where}: a {type(value).__name__} is not JSON; use strings, numbers, booleans, None, lists and dicts"
        )
    if depth < 1:
        raise InvalidMask(f"{where}: nested too deep; flatten it (at most {MAX_DOCUMENT_DEPTH} levels in all)")
    if isinstance(value, Mapping):
        return _frozen_mapping(value, where, depth)
    return FrozenList(freeze(item, f"{where}[{index}]", depth - 1) for index, item in enumerate(value))


def _frozen_mapping(value: Mapping[Any, Any], where: str, depth: int) -> FrozenDict[str, Any]:
    for key in value:
        if not isinstance(key, str):
            raise InvalidMask(f"{where}: key {key!a:.80} is not a string; JSON keys are strings")
        _text(key, where)
    return FrozenDict({str(key): freeze(value[key], f"{where}.{key:.80}", depth - 1) for key in sorted(value)})


def _integer(value: int, where: str) -> int:
    if not SMALLEST <= value <= LARGEST:
        raise InvalidMask(f"{where}: the integer does not fit 64 bits; store it as a string")
    return int(value)


def _float(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise InvalidMask(f"{where}: {value} is not a JSON number; store null or leave the key out")
    return float(value)


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidMask(f"{where}: {value!a:.100} holds half a surrogate pair, which is not Unicode text") from None
    return str(value)


def encode(value: Any) -> str:
    """The canonical text of a JSON value. Raises ValueError for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def decode(
    raw: bytes, where: str, *, depth: int, containers: int | None = None, error: type[MaskError] = CorruptMask
) -> Any:
    """Parse untrusted JSON in UTF-8; `where` names it in messages.

    Nesting (at most `depth`) and the number of objects and lists (at most `containers`) are counted on the text,
    before a parser builds anything from it. Duplicate keys, NaN and infinity are refused. Raises `error`, or
    `MaskTooLarge` for the two counts.
    """
    structure = np.frombuffer(STRING.sub(b"", raw), np.uint8)
    opened = (structure == ord("{")) | (structure == ord("["))
    closed = (structure == ord("}")) | (structure == ord("]"))
    if containers is not None and np.count_nonzero(opened) > containers:
        raise MaskTooLarge(f"{where}: more than {containers} JSON objects and lists")
    levels = np.cumsum(opened.view(np.int8) - closed.view(np.int8), dtype=np.int32)
    if levels.size and levels.max() > depth:
        raise MaskTooLarge(f"{where}: JSON nested {levels.max()} deep, over the limit of {depth}")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise error(f"{where}: key {twice[:80]!a} appears twice")
        return members

    def constant(name: str) -> NoReturn:
        raise error(f"{where}: {name} is not a JSON number")

    try:
        return json.loads(raw.decode(), object_pairs_hook=unique, parse_constant=constant)
    except MaskError:
        raise
    except (ValueError, RecursionError) as problem:
        raise error(f"{where}: not JSON in UTF-8 ({problem})") from None
