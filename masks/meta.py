"""The metadata of a mask: its name, its base model, how it was made and what was measured."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from math import prod
from typing import Any

from masks.document import FrozenDict, encode, freeze
from masks.errors import CorruptMask, InvalidMask, MaskTooLarge, UnsupportedVersion
from masks.geometry import BaseModel, Geometry
from masks.limits import MAX_DOCUMENT_BYTES, MAX_DOCUMENT_DEPTH, MAX_ELEMENTS, MAX_PARAMETER_NAME

VERSIONS = (1, 2)
"""Of the format: 2 is that of masks with dampened components, 1 that of all others."""

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
PARAMETER = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.ASCII)
CREATED_AT = "%Y-%m-%dT%H:%M:%SZ"

KEYS = {"format", "name", "base", "shapes", "created_at", "made", "measured"}


@dataclass(frozen=True)
class Meta:
    """The document of a mask; deeply immutable. A NumPy scalar becomes a plain number.

    Attributes:
        name: `[a-z0-9][a-z0-9._-]{0,63}`, not `base`.
        base: The model it belongs to.
        shapes: Parameter name → (rows, columns), for the parameters whose weights are cut.
        created_at: UTC, ISO 8601 to the second: `2026-11-30T12:00:00Z`.
        made: JSON: criterion and every setting.
        measured: JSON: measurements that came with it.

    Raises:
        InvalidMask: One of them is not as described.
        MaskTooLarge: Over a limit of the format.
    """

    name: str
    base: BaseModel
    shapes: dict[str, tuple[int, int]] = field(hash=False)
    created_at: str
    made: dict[str, Any] = field(hash=False)
    measured: dict[str, Any] = field(hash=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        if not isinstance(self.base, BaseModel):
            raise InvalidMask("meta.base must be a masks.BaseModel; masks.describe(model_dir) gives one")
        check_created_at(self.created_at)
        object.__setattr__(self, "shapes", _shapes(self.shapes))
        for key in ("made", "measured"):
            value = getattr(self, key)
            if not isinstance(value, Mapping):
                raise InvalidMask(f"{key} must be a dict, not {type(value).__name__}")
            object.__setattr__(self, key, freeze(value, key, MAX_DOCUMENT_DEPTH - 1))
        size = len(self.document())
        if size > MAX_DOCUMENT_BYTES:
            raise MaskTooLarge(
                f"the document has {size} bytes of JSON, over {MAX_DOCUMENT_BYTES}; shorten made or measured"
            )

    def document(self, version: int = 1) -> str:
        """The canonical JSON text that the mask file holds (FORMAT.md, Document), of this format version."""
        return encode(
            {
                "format": version,
                "name": self.name,
                "base": asdict(self.base),
                "shapes": self.shapes,
                "created_at": self.created_at,
                "made": self.made,
                "measured": self.measured,
            }
        )

    @classmethod
    def from_document(cls, document: Any) -> "Meta":
        """The inverse of `document`, from parsed and untrusted JSON, of any format version that is known.

        Raises:
            UnsupportedVersion: A format version that is not known.
            CorruptMask: Missing or unknown keys.
            InvalidMask: Bad values.
        """
        if not isinstance(document, dict) or type(document.get("format")) is not int:
            raise CorruptMask('document: must be an object with an integer under "format"')
        if document["format"] not in VERSIONS:
            raise UnsupportedVersion(
                f"document: format version {document['format']!s:.40}; this reader knows versions 1 and 2. "
                "Update Excise, or save the mask again with this version"
            )
        _exactly(document, KEYS, "document")
        base = _exactly(document["base"], {"id", "architecture", "geometry", "fingerprint"}, "document: base")
        sizes = _exactly(base["geometry"], set(Geometry.__dataclass_fields__), "document: base.geometry")
        shapes = document["shapes"]
        if not isinstance(shapes, dict) or not all(isinstance(shape, list) for shape in shapes.values()):
            raise CorruptMask("document: shapes is not an object of lists")
        return cls(
            name=document["name"],
            base=BaseModel(base["id"], base["architecture"], Geometry(**sizes), base["fingerprint"]),
            shapes={name: tuple(shape) for name, shape in shapes.items()},
            created_at=document["created_at"],
            made=document["made"],
            measured=document["measured"],
        )


def check_name(name: object) -> None:
    """Raise `InvalidMask` unless `name` may name a mask."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or name == "base":
        raise InvalidMask(
            f"name {name!a:.100} cannot name a mask; use 1 to 64 of a-z, 0-9, '.', '_', '-', starting with a letter or "
            "digit ('base' means the uncut model)"
        )


def check_created_at(created_at: object) -> None:
    """Raise `InvalidMask` unless it is a time in UTC to the second, as `now` writes it."""
    try:
        # And back, because strptime also takes single digits.
        valid = datetime.strptime(str(created_at), CREATED_AT).strftime(CREATED_AT) == created_at
    except ValueError:
        valid = False
    if not valid:
        raise InvalidMask(
            f"created_at is {created_at!a:.100}; it must be UTC to the second, such as 2026-11-30T12:00:00Z"
        )


def now() -> str:
    """The present time as `created_at` holds it."""
    return datetime.now(UTC).strftime(CREATED_AT)


def _shapes(shapes: object) -> FrozenDict[str, tuple[int, int]]:
    if not isinstance(shapes, Mapping):
        raise InvalidMask(f"shapes must be a dict, not {type(shapes).__name__}")
    checked = {}
    for name, shape in shapes.items():
        if not isinstance(name, str) or len(name) > MAX_PARAMETER_NAME or not PARAMETER.fullmatch(name):
            raise InvalidMask(
                f"shapes: {name!a:.300} is not a parameter name: words of letters, digits, '_' and '-' joined by dots, "
                f"at most {MAX_PARAMETER_NAME} characters"
            )
        if not isinstance(shape, tuple | list) or len(shape) != 2 or not all(type(n) is int and n > 0 for n in shape):
            raise InvalidMask(f"shapes: {name} has {shape!a:.100}; a shape is (rows, columns), two positive integers")
        if prod(shape) > MAX_ELEMENTS:
            raise MaskTooLarge(f"shapes: {name} has {shape[0]} x {shape[1]} elements, over the limit of {MAX_ELEMENTS}")
        checked[name] = (shape[0], shape[1])
    return FrozenDict({name: checked[name] for name in sorted(checked)})


def _exactly(value: object, keys: set[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CorruptMask(f"{where} is not an object")
    if value.keys() != keys:
        missing, unknown = sorted(keys - value.keys()), sorted(value.keys() - keys)
        raise CorruptMask(f"{where}: missing keys {missing}, unknown keys {[key[:80] for key in unknown[:10]]}")
    return value
