"""The pickle in a PyTorch checkpoint, read as untrusted bytes: which tensors it describes, and nothing is executed.

torch.save writes a state dict as a pickle of protocol 2: a dict of name → call of a rebuild function with a storage (a
persistent id), an offset, a shape and strides. A pickle is a program. The one that runs here knows the opcodes of such
a dict and no other (none that calls, imports or builds an object), and the names in `GLOBALS`, which stand for
themselves. See the documentation of `pickletools` for the opcodes, and of `torch.serialization` for the persistent id.
"""

import pickle
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from io import BytesIO
from typing import Any

from masks.errors import CheckpointError
from masks.limits import MAX_PICKLE_OPCODES

MEND = "load the model with transformers and save_pretrained() it: that writes safetensors"
DAMAGED = (ValueError, TypeError, LookupError, AttributeError, EOFError, OverflowError, struct.error)


@dataclass(frozen=True, slots=True)
class Element:
    """Stands for a storage class or a torch dtype: the dtype as safetensors writes it, or None for untyped bytes."""

    dtype: str | None


@dataclass(frozen=True, slots=True)
class Storage:
    """Stands for a storage: its entry in the archive, and how many elements (bytes, where untyped) it claims."""

    key: str
    element: Element
    elements: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """Stands for a tensor; offset and strides count elements of `dtype`. Nothing of it is checked yet."""

    storage: Storage
    dtype: str | None
    offset: Any
    shape: Any
    strides: Any


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Stands for a function that a state dict may call: `build` makes the stand-in of what it returns."""

    build: Callable[..., Any]


class Pairs(dict[str, Any]):
    """A dict whose keys are strings, each given once."""

    __slots__ = ()

    def __setitem__(self, key: str, value: Any) -> None:
        if type(key) is not str:
            raise pickle.UnpicklingError(f"a key is {kind(key)}, not a name: this is not a flat state dict")
        if key in self:
            raise pickle.UnpicklingError(f"key {key[:300]!a} appears twice")
        super().__setitem__(key, value)


def _mapping() -> Pairs:
    return Pairs()


def _tensor_v2(
    storage: Storage, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, metadata: Any = None
) -> Tensor:
    return _tensor_v3(storage, offset, shape, strides, grad, hooks, storage.element, metadata)


def _tensor_v3(
    storage: Storage,
    offset: Any,
    shape: Any,
    strides: Any,
    grad: Any,
    hooks: Any,
    element: Element,
    metadata: Any = None,
) -> Tensor:
    if type(storage) is not Storage or type(element) is not Element:
        raise pickle.UnpicklingError(f"a tensor is made of {kind(storage)} and {kind(element)}")
    # Metadata says, for one, that the bytes are those of the conjugate.
    if metadata:
        raise pickle.UnpicklingError("a tensor has metadata, so that its bytes are not its values")
    return Tensor(storage, element.dtype, offset, shape, strides)


def _parameter(data: Any, grad: Any, hooks: Any) -> Any:
    return data


_STORAGES = {
    "Double": "F64",
    "Float": "F32",
    "Half": "F16",
    "BFloat16": "BF16",
    "Long": "I64",
    "Int": "I32",
    "Short": "I16",
    "Char": "I8",
    "Byte": "U8",
    "Bool": "BOOL",
    "ComplexFloat": "C64",
}
_DTYPES = {
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
}

GLOBALS: dict[str, Element | Rebuild] = {
    "collections.OrderedDict": Rebuild(_mapping),
    "torch._utils._rebuild_tensor_v2": Rebuild(_tensor_v2),
    "torch._utils._rebuild_tensor_v3": Rebuild(_tensor_v3),
    "torch._utils._rebuild_parameter": Rebuild(_parameter),
    "torch.storage.UntypedStorage": Element(None),
    **{f"torch.{name}Storage": Element(dtype) for name, dtype in _STORAGES.items()},
    **{f"torch.{name}": Element(dtype) for name, dtype in _DTYPES.items()},
}
"""Every name that a pickle may mention, and what it becomes."""


class Opcodes(dict[int, Callable[[Any], None]]):
    """Opcode → what it does; one that is not listed is refused."""

    def __missing__(self, code: int) -> Callable[[Any], None]:
        name = next((opcode.name for opcode in pickletools.opcodes if opcode.code == chr(code)), hex(code))
        raise pickle.UnpicklingError(f"opcode {name} is not one of a flat state dict (tensors by name)")


def _counted(step: Callable[[Any], None]) -> Callable[[Any], None]:
    @wraps(step)
    def counted(machine: "Unpickler") -> None:
        machine.steps += 1
        if machine.steps > MAX_PICKLE_OPCODES:
            raise pickle.UnpicklingError(f"more than {MAX_PICKLE_OPCODES} opcodes, over the limit")
        step(machine)

    return counted


# The interpreter of the standard library that is written in Python: its memo is a dict (a list in the other, as long as
# the file says), and its opcodes are a table, of which these are taken.
_TAKEN = (
    pickle.PROTO + pickle.STOP + pickle.MARK + pickle.GLOBAL + pickle.BINPERSID
    + pickle.BINPUT + pickle.LONG_BINPUT + pickle.BINGET + pickle.LONG_BINGET
    + pickle.EMPTY_TUPLE + pickle.TUPLE + pickle.TUPLE1 + pickle.TUPLE2 + pickle.TUPLE3
    + pickle.SETITEM + pickle.SETITEMS
    + pickle.BINUNICODE + pickle.BININT + pickle.BININT1 + pickle.BININT2 + pickle.LONG1
    + pickle.NONE + pickle.NEWTRUE + pickle.NEWFALSE
)  # fmt: skip


class Unpickler(pickle._Unpickler):
    """Runs a state dict's pickle on stand-ins. One opcode makes at most one small object, or a string of the file."""

    stack: list[Any]
    steps = 0

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name; there is no import."""
        try:
            return GLOBALS[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it refers to {f'{module}.{name}'[:300]!a}, which no state dict needs; nothing of it was run"
            ) from None

    def persistent_load(self, pid: Any) -> Storage:
        """The stand-in of a storage: ("storage", its class, the entry's name, the device, number of elements)."""
        match pid:
            case ("storage", Element() as element, str(key), str(), int(elements)):
                return Storage(key, element, elements)
        raise pickle.UnpicklingError("a persistent id is not that of a storage")

    def load_empty_dict(self) -> None:
        """`EMPTY_DICT`."""
        self.stack.append(Pairs())

    def load_reduce(self) -> None:
        """`REDUCE`: of the functions in `GLOBALS`."""
        arguments = self.stack.pop()
        function = self.stack.pop()
        if type(function) is not Rebuild or type(arguments) is not tuple:
            raise pickle.UnpicklingError(f"it calls {kind(function)}")
        self.stack.append(function.build(*arguments))

    def load_build(self) -> None:
        """`BUILD`: the attributes of a state dict (versions of its modules), left out."""
        self.stack.pop()
        if type(self.stack[-1]) is not Pairs:
            raise pickle.UnpicklingError(f"it sets attributes of {kind(self.stack[-1])}")

    dispatch = Opcodes(
        {code: _counted(pickle._Unpickler.dispatch[code]) for code in _TAKEN}
        | {
            pickle.EMPTY_DICT[0]: _counted(load_empty_dict),
            pickle.REDUCE[0]: _counted(load_reduce),
            pickle.BUILD[0]: _counted(load_build),
        }
    )


def load(raw: bytes, where: str) -> dict[str, Tensor]:
    """Name → `Tensor` of a pickled state dict. What the tensors claim is left to the caller to check.

    Raises:
        CheckpointError: A name that is not in `GLOBALS`; an opcode, key or value that no flat state dict has; too many
            opcodes.
    """
    try:
        found = Unpickler(BytesIO(raw)).load()
    except pickle.UnpicklingError as problem:
        raise CheckpointError(f"{where}: {problem}. If you trust the file, {MEND}") from None
    except DAMAGED as problem:
        fault = type(problem).__name__
        raise CheckpointError(f"{where}: not the pickle of a state dict ({fault}); download the model again") from None
    if type(found) is not Pairs:
        raise CheckpointError(f"{where}: it holds {kind(found)}, not tensors by name; {MEND}")
    for name, value in found.items():
        if type(value) is not Tensor:
            raise CheckpointError(f"{where}: {name[:300]!a} is {kind(value)}: this is not a flat state dict; {MEND}")
    return found


def kind(value: object) -> str:
    """What a value of a pickle is, for messages: never the value, which may be nested deeper than it can be written."""
    return f"a {type(value).__name__}"
