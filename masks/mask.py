"""The mask: an immutable set of components of one base model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from hashlib import sha256
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from masks import bitmask, encoding, harm
from masks import gates as gating
from masks.algebra import Operation, combine_codes, combine_indices, combine_weights
from masks.components import GradedLike, WeightLike, layer_sets, weight_sets
from masks.document import FrozenDict
from masks.errors import FingerprintMismatch, GeometryMismatch, InvalidMask, UnknownParameter
from masks.meta import Meta

WORDS: dict[Operation, str] = {"|": "-or-", "&": "-and-", "-": "-minus-"}


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Mask:
    """A set of components of one base model, with how it was made and measured.

    The constructor takes any integers (lists, ranges, sets, arrays, in any order and with repeats), for a layer also
    index → gate (0, 0.25 or 0.5; an index with gate 1 is left out), and for weights also a boolean array of the
    parameter's shape (True is cut) or a packed bitmask (a uint8 array). It checks them against `meta.base.geometry` and
    `meta.shapes` and brings them to the one form below. Empty entries, codes of a layer that is only cut, and shapes of
    parameters of which nothing is cut, are dropped; a mask may be empty altogether.

    Two masks are equal when their files are: `digest` is the identity.

    Attributes:
        neurons: Layer → indices in [0, geometry.neurons); int32, sorted, unique, read-only.
        heads: Layer → indices in [0, geometry.heads); int32, sorted, unique, read-only.
        weights: Parameter name → its cut elements in one of two forms (`masks.bitmask`), read-only: flat row-major
            indices, int64 sorted unique, or, where more than 1/64 of the parameter is cut, a packed bitmask, uint8.
            Read them with `weight_indices` and `weight_bits`.
        meta: See `masks.Meta`.
        gates: "neurons" or "heads" → layer → codes of that layer's components (`masks.gates`: 0 for gate 0, 1 for 1/4,
            2 for 1/2), uint8, aligned with its indices, read-only; only layers with a dampened component. Read the
            factors with `gate_values`.

    Raises:
        InvalidMask: Components or gates that do not fit the geometry or the shapes.
    """

    neurons: dict[int, npt.NDArray[np.int32]]
    heads: dict[int, npt.NDArray[np.int32]]
    weights: dict[str, npt.NDArray[Any]]
    meta: Meta
    gates: dict[str, dict[int, npt.NDArray[np.uint8]]]

    def __init__(
        self,
        neurons: Mapping[int, GradedLike],
        heads: Mapping[int, GradedLike],
        weights: Mapping[str, WeightLike],
        meta: Meta,
        gates: Mapping[str, Mapping[int, Any]] | None = None,
    ) -> None:
        if not isinstance(meta, Meta):
            raise InvalidMask(f"meta must be a masks.Meta, not {type(meta).__name__}")
        geometry = meta.base.geometry
        cut = weight_sets(weights, meta.shapes)
        kept = {name: shape for name, shape in meta.shapes.items() if name in cut}
        if len(kept) < len(meta.shapes):
            meta = replace(meta, shapes=kept)
        set_field = object.__setattr__
        codes = {} if gates is None else gates
        if unknown := codes.keys() - {"neurons", "heads"}:
            raise InvalidMask(f"gates: {sorted(map(str, unknown))[:3]} are no kind of component with gates")
        graded = {}
        for kind, listed, limit in (("heads", heads, geometry.heads), ("neurons", neurons, geometry.neurons)):
            indices, coded = layer_sets(listed, codes.get(kind, {}), geometry.layers, limit, kind)
            set_field(self, kind, indices)
            if coded:
                graded[kind] = coded
        set_field(self, "weights", cut)
        set_field(self, "meta", meta)
        set_field(self, "gates", FrozenDict(graded))

    @property
    def name(self) -> str:
        """Its name, `meta.name`."""
        return self.meta.name

    @cached_property
    def counts(self) -> dict[str, int]:
        """Components by kind, cut or dampened: `{"neurons": …, "heads": …, "weights": …}`."""
        return FrozenDict(
            neurons=sum(cut.size for cut in self.neurons.values()),
            heads=sum(cut.size for cut in self.heads.values()),
            weights=sum(bitmask.count(cut) for cut in self.weights.values()),
        )

    @property
    def count(self) -> int:
        """Components of every kind, cut or dampened."""
        return sum(self.counts.values())

    @cached_property
    def dampened(self) -> int:
        """How many of them are dampened: neurons and heads with a gate of 1/4 or 1/2."""
        return gating.dampened(self.gates)

    @property
    def version(self) -> int:
        """The format version of its file: 2 with dampened components, otherwise 1."""
        return 2 if self.gates else 1

    def gate_values(self, kind: str, layer: int) -> npt.NDArray[np.float32]:
        """The gates of a layer's `kind`, neurons or heads, float32, aligned with its indices: 0, 1/4 or 1/2.

        Raises:
            KeyError: The mask lists none of that layer, as its indices do.
        """
        listed: npt.NDArray[np.int32] = getattr(self, kind)[layer]
        return gating.values(listed.size, self.gates.get(kind, {}).get(layer))

    @property
    def granularity(self) -> str:
        """`neuron`, `head` or `weight`; `mixed` for more than one of them, `none` for an empty mask."""
        kinds = [kind for kind in ("neuron", "head", "weight") if getattr(self, f"{kind}s")]
        return kinds[0] if len(kinds) == 1 else "mixed" if kinds else "none"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against serving it, by its own measurements (`masks.harm`); empty where nothing was measured."""
        return harm.warnings(self.meta.measured)

    @cached_property
    def digest(self) -> str:
        """Sha256 of the mask file, 64 hex digits: the mask's identity everywhere."""
        return sha256(self.dumps()).hexdigest()

    def dumps(self) -> bytes:
        """The bytes of the mask file (FORMAT.md). Raises `MaskTooLarge` over a limit."""
        tensors: dict[str, npt.NDArray[Any]] = {}
        tensors.update({f"neurons.{layer}": cut for layer, cut in self.neurons.items()})
        tensors.update({f"heads.{layer}": cut for layer, cut in self.heads.items()})
        tensors.update({f"weights.{name}": cut for name, cut in self.weights.items()})
        for kind, layers in self.gates.items():
            tensors.update({f"gates.{kind}.{layer}": codes for layer, codes in layers.items()})
        return encoding.encode(tensors, self.meta.document(self.version))

    def weight_indices(self, name: str) -> npt.NDArray[np.int64]:
        """Flat row-major indices, int64 sorted unique, of the cut elements of parameter `name`.

        Raises:
            UnknownParameter: The mask cuts nothing of it.
        """
        cut = self._cut(name)
        return bitmask.unpack(cut) if bitmask.is_packed(cut) else cut

    def weight_bits(self, name: str) -> npt.NDArray[np.bool_]:
        """Boolean array of the parameter's shape, True where cut.

        It allocates one byte an element of `meta.shapes[name]`, so `masks.check` an untrusted mask first. Raises
        `UnknownParameter` where the mask cuts nothing of it.
        """
        cut, shape = self._cut(name), self.meta.shapes[name]
        elements = prod(shape)
        packed = cut if bitmask.is_packed(cut) else bitmask.pack(cut, elements)
        return np.unpackbits(packed, count=elements, bitorder="little").view(np.bool_).reshape(shape)

    def _cut(self, name: str) -> npt.NDArray[Any]:
        if name not in self.weights:
            near = get_close_matches(name, self.weights, n=3) or list(self.weights)[:3]
            raise UnknownParameter(f"mask {self.name} cuts no weights of {name!a:.300}; it cuts {near or 'no weights'}")
        return self.weights[name]

    def with_meta(
        self,
        *,
        name: str | None = None,
        made: Mapping[str, Any] | None = None,
        measured: Mapping[str, Any] | None = None,
    ) -> "Mask":
        """The same components under another name, or with other `made` or `measured`; None keeps what there is."""
        meta = replace(
            self.meta,
            name=self.meta.name if name is None else name,
            made=self.meta.made if made is None else dict(made),
            measured=self.meta.measured if measured is None else dict(measured),
        )
        return Mask(self.neurons, self.heads, self.weights, meta, self.gates)

    def __or__(self, other: object) -> "Mask":
        return self._combine("|", other)

    def __and__(self, other: object) -> "Mask":
        return self._combine("&", other)

    def __sub__(self, other: object) -> "Mask":
        return self._combine("-", other)

    def _combine(self, operation: Operation, other: object) -> "Mask":
        if not isinstance(other, Mask):
            return NotImplemented
        shapes = self._common_shapes(other)
        elements = {name: prod(shape) for name, shape in shapes.items()}
        meta = replace(
            self.meta,
            name=_joined(self.name, WORDS[operation], other.name),
            shapes=shapes,
            # Of two times the later, not the present: the same operands give the same bytes.
            created_at=max(self.meta.created_at, other.meta.created_at),
            made={"operation": operation, "operands": [self.digest, other.digest]},
            measured={},
        )
        neurons = combine_indices(operation, self.neurons, other.neurons)
        heads = combine_indices(operation, self.heads, other.heads)
        gates = {
            kind: combine_codes(operation, combined, self._layers(kind), other._layers(kind))
            for kind, combined in (("neurons", neurons), ("heads", heads))
        }
        return Mask(neurons, heads, combine_weights(operation, self.weights, other.weights, elements), meta, gates)

    def _layers(self, kind: str) -> tuple[Mapping[int, npt.NDArray[Any]], Mapping[int, npt.NDArray[Any]]]:
        return getattr(self, kind), self.gates.get(kind, {})

    def overlap(self, other: "Mask") -> float:
        """Jaccard index over all components, |A ∩ B| / |A ∪ B| in [0, 1]; 1.0 for two empty masks. Gates do not enter.

        Raises as the set operations do.
        """
        elements = {name: prod(shape) for name, shape in self._common_shapes(other).items()}
        both = sum(cut.size for cut in combine_indices("&", self.neurons, other.neurons).values())
        both += sum(cut.size for cut in combine_indices("&", self.heads, other.heads).values())
        both += sum(bitmask.count(cut) for cut in combine_weights("&", self.weights, other.weights, elements).values())
        either = self.count + other.count - both
        return both / either if either else 1.0

    def _common_shapes(self, other: "Mask") -> dict[str, tuple[int, int]]:
        mine, its = self.meta.base, other.meta.base
        if mine.fingerprint != its.fingerprint:
            raise FingerprintMismatch(
                f"masks {self.name} and {other.name} belong to different base models: {mine.id} with fingerprint "
                f"{mine.fingerprint}, and {its.id} with fingerprint {its.fingerprint}; combine masks of one model"
            )
        if mine.geometry != its.geometry:
            raise GeometryMismatch(
                f"masks {self.name} and {other.name} give one fingerprint two geometries: {mine.geometry}; and "
                f"{its.geometry}. One of them is wrong; make it again from the model"
            )
        for name in self.meta.shapes.keys() & other.meta.shapes.keys():
            if self.meta.shapes[name] != other.meta.shapes[name]:
                raise GeometryMismatch(
                    f"masks {self.name} and {other.name} give {name} the shapes {self.meta.shapes[name]} and "
                    f"{other.meta.shapes[name]}. One of them is wrong; make it again from the model"
                )
        return {**self.meta.shapes, **other.meta.shapes}

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Mask) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        cut = ", ".join(f"{count} {kind}" for kind, count in self.counts.items() if count) or "nothing"
        dampened = f"; {self.dampened} of them dampened" if self.dampened else ""
        return f"<Mask {self.name} of {self.meta.base.id}: {cut}{dampened}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor, because unpickled arrays are writable.
        return Mask, (dict(self.neurons), dict(self.heads), dict(self.weights), self.meta, self.gates)


def _joined(left: str, word: str, right: str) -> str:
    room = (64 - len(word)) // 2
    name = f"{left}{word}{right}"
    return name if len(name) <= 64 else f"{left[:room]}{word}{right[:room]}"
