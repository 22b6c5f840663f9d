"""A PyTorch checkpoint file (`pytorch_model.bin`), read as untrusted bytes: its tensors and where they lie."""

from math import prod
from pathlib import Path

from masks import archive, pickled
from masks.errors import CheckpointError
from masks.header import BITS, TensorEntry
from masks.limits import MAX_DIMENSIONS
from masks.pickled import MEND, Tensor

AGAIN = "download it again"


def entries(path: Path) -> list[TensorEntry]:
    """The tensors of a state dict that torch.save wrote; their offsets count from the start of the file.

    No tensor is loaded and nothing of the file is executed. Tensors may share bytes.

    Raises:
        CheckpointError: The file is damaged, or something that torch alone could load: a file of torch before 1.6, a
            tensor that is not contiguous, objects other than tensors.
    """
    content = archive.read(path)
    where = f"{path}: data.pkl"
    return [
        _entry(name, tensor, content.storages, f"{where}: tensor {name[:300]!a}")
        for name, tensor in pickled.load(content.pickle, where).items()
    ]


def _entry(name: str, tensor: Tensor, storages: dict[str, archive.Place], where: str) -> TensorEntry:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise CheckpointError(f"{where}: the name is not Unicode text; {MEND}") from None
    storage, dtype, shape, strides = tensor.storage, tensor.dtype, tensor.shape, tensor.strides
    if dtype is None:
        raise CheckpointError(f"{where} has no dtype; {AGAIN}")
    if not _sizes(shape) or not _sizes(strides) or len(shape) != len(strides):
        raise CheckpointError(
            f"{where}: shape and strides must be as many sizes each, at most {MAX_DIMENSIONS}; {AGAIN}"
        )
    if not _sizes((tensor.offset, storage.elements)):
        raise CheckpointError(f"{where}: its offset, or the length of its storage, is not a size; {AGAIN}")
    if not _contiguous(shape, strides):
        raise CheckpointError(f"{where} is not contiguous (shape {shape}, strides {strides}); {MEND}")
    key = storage.key[:80]
    if storage.key not in storages:
        raise CheckpointError(f"{where} lies in storage {key!a}, which the file does not hold; {AGAIN}")
    begin, end = storages[storage.key]
    claimed = storage.elements * _item(storage.element.dtype)
    if claimed != end - begin:
        raise CheckpointError(f"{where}: its storage {key!a} has {end - begin} bytes, not {claimed}; {AGAIN}")
    first = tensor.offset * _item(dtype)
    last = first + prod(shape) * _item(dtype)
    if last > claimed:
        raise CheckpointError(f"{where} is bytes {first} to {last} of storage {key!a}, which has {claimed}; {AGAIN}")
    return TensorEntry(name, dtype, shape, begin + first, begin + last)


def _item(dtype: str | None) -> int:
    """Bytes of an element; an untyped storage counts bytes."""
    return 1 if dtype is None else BITS[dtype] // 8


def _sizes(value: object) -> bool:
    # `type(...) is int`, because True is an int to isinstance.
    return (
        type(value) is tuple and len(value) <= MAX_DIMENSIONS and all(type(n) is int and 0 <= n < 2**63 for n in value)
    )


def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """As torch has it: row-major; the stride of a dimension of one element, or of no elements, does not matter."""
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected and 0 not in shape:
            return False
        expected *= size
    return True
