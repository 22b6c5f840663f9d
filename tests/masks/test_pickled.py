import os
import pickle
import pickletools
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from masks import CheckpointError, parameters
from masks.pickled import GLOBALS, Element, Storage, Tensor, Unpickler, load
from tests.masks.pytorch import (
    NO_HOOKS,
    PROTOCOL,
    REBUILD,
    STOP,
    archived,
    called,
    integer,
    named,
    pickled,
    sizes,
    storage,
    tensor,
    text,
)
from tests.masks.samples import quick

GOOD = pickled(a=tensor())


def test_a_tensor_is_a_stand_in() -> None:
    assert load(GOOD, "here") == {"a": Tensor(Storage("0", Element("F32"), 6), "F32", 0, (2, 3), (3, 1))}


def test_nothing_but_stand_ins_can_come_of_a_name() -> None:
    for name, value in GLOBALS.items():
        assert type(value).__module__ == "masks.pickled", name
    assert GLOBALS.keys() - {"collections.OrderedDict"} == {name for name in GLOBALS if name.startswith("torch.")}


def test_no_opcode_that_imports_calls_or_builds_is_left_to_the_standard_library() -> None:
    ours = {"EMPTY_DICT", "REDUCE", "BUILD"}
    names = {opcode.code: opcode.name for opcode in pickletools.opcodes}
    allowed = {names[chr(code)] for code in Unpickler.dispatch}
    assert ours < allowed
    assert not allowed & {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "STACK_GLOBAL", "PUT", "FRAME"}
    for opcode in pickletools.opcodes:
        if opcode.name not in allowed:
            with pytest.raises(CheckpointError, match=f"opcode {opcode.name} is not one of a flat state dict"):
                load(PROTOCOL + b"}" + opcode.code.encode("latin-1") + bytes(20), "here")


class Attack:
    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, __import__, torch.load])
def test_a_call_is_refused_and_not_made(function, protocol: int, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    attack = Attack(function, f"touch {witness}")
    raw = pickle.dumps({"a": attack}, protocol)
    archived(tmp_path / "pytorch_model.bin", raw)
    with pytest.raises(CheckpointError, match=r"refers to|opcode"):
        parameters(tmp_path)
    # In the opcodes of a state dict it is the name that is refused.
    call = called(named(function.__module__, function.__name__), text(f"touch {witness}"))
    with pytest.raises(
        CheckpointError, match=f"refers to '{function.__module__}.{function.__name__}', .*nothing of it"
    ):
        load(pickled(a=tensor(), b=call), "here")
    assert not witness.exists()


@pytest.mark.parametrize(
    "name",
    [
        *("builtins.eval", "os.system", "posix.system", "torch.load", "torch._utils", "torch", "collections.Counter"),
        *("torch.nn.parameter.Parameter", "torch.hub.load", "torch._utils._rebuild_tensor_v2.__globals__", "a" * 5000),
        *("masks.pickled.Rebuild", "collections.OrderedDict.fromkeys", "torch.ComplexDoubleStorage", "\u00e9.\u00e9"),
    ],
)
def test_any_other_name_is_refused_and_named(name: str) -> None:
    module, _, last = name.rpartition(".")
    with pytest.raises(CheckpointError, match="refers to") as raised:
        load(PROTOCOL + named(module, last) + STOP, "here")
    assert len(str(raised.value)) < 600
    assert ascii(name)[1:200] in str(raised.value) or not module


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (pickled(a=tensor()) + b"left over", None),
        (PROTOCOL + NO_HOOKS + STOP, None),
        (PROTOCOL + b"}}b" + STOP, None),
        (b"", "not the pickle"),
        (PROTOCOL, "not the pickle"),
        (PROTOCOL + b"}", "not the pickle"),
        (PROTOCOL + STOP, "not the pickle"),
        (b"\x80\xff}.", "not the pickle"),
        (PROTOCOL + b"t" + STOP, "not the pickle"),
        (PROTOCOL + b"h\x07" + STOP, "here"),
        (PROTOCOL + b"X\xff\xff\xff\xffabc", "here"),
        (PROTOCOL + b"X\x02\0\0\0\xff\xff" + STOP, "not the pickle"),
        (PROTOCOL + b"}K\x01K\x02s" + STOP, "not a flat state dict"),
        (PROTOCOL + b"}(K\x01u" + STOP, "not the pickle"),
        (PROTOCOL + b")K\x01K\x02s" + STOP, "not the pickle"),
        (PROTOCOL + text("a") + STOP, "holds a str, not tensors by name"),
        (PROTOCOL + b"(((" + tensor() + STOP, "holds a Tensor"),
        (pickled(model=b"}"), "'model' is a Pairs: this is not a flat state dict"),
        (pickled(a=b"]"), "EMPTY_LIST is not one of a flat state dict"),
        (pickled(epoch=integer(3)), "'epoch' is a int"),
        (pickled(a=named("torch", "FloatStorage")), "'a' is a Element"),
        (pickled(a=REBUILD), "'a' is a Rebuild"),
        (pickled(a=b"N"), "'a' is a NoneType"),
        (pickled(a=tensor())[:-2] + text("a") + tensor() + b"u.", "key 'a' appears twice"),
        (PROTOCOL + called(named("collections", "OrderedDict"), sizes(1)) + STOP, "TypeError"),
        (pickled(a=text("x") + b")R"), "calls a str"),
        (pickled(a=named("torch", "FloatStorage") + b")R"), "calls a Element"),
        (pickled(a=REBUILD + b")R"), "TypeError"),
        (pickled(a=REBUILD + b"}R"), "calls a Rebuild"),
        (pickled(a=called(REBUILD, *[b"N"] * 6)), "AttributeError"),
        (pickled(a=called(named("torch._utils", "_rebuild_tensor_v3"), *[b"N"] * 7)), "made of a NoneType"),
        (pickled(a=tensor()[:-2] + b"}" + text("conj") + b"\x88stR"), "metadata"),
        (PROTOCOL + text("a") + b"Q" + STOP, "persistent id"),
        (PROTOCOL + storage(6).replace(b"storage", b"Storage") + STOP, "persistent id"),
        (PROTOCOL + named("torch", "FloatStorage") + b"}b" + STOP, "sets attributes of a Element"),
        (PROTOCOL + REBUILD + b"N}" + text("build") + b"Ns\x86b" + STOP, "sets attributes of a Rebuild"),
    ],
)  # fmt: skip
def test_only_a_flat_dict_of_tensors_by_name_is_taken(raw: bytes, message: str | None) -> None:
    if message is None:
        assert load(raw, "here").keys() <= {"a"}
        return
    with pytest.raises(CheckpointError, match=message) as raised:
        load(raw, "here")
    assert str(raised.value).startswith("here: ")


def test_what_a_state_dict_carries_beside_its_tensors_is_left_out() -> None:
    attributes = b"}" + text("_metadata") + NO_HOOKS + b"s" + b"}" + text("keys") + b"Ns" + b"\x86"
    found = load(pickled(a=tensor())[:-1] + attributes + b"b" + STOP, "here")
    assert list(found) == ["a"]
    assert callable(found.keys)
    assert not hasattr(found, "_metadata")


LIMIT = 2**15
SIZE = 2**17


@pytest.mark.parametrize(
    "raw",
    [
        PROTOCOL + b"(" * SIZE,
        PROTOCOL + b"}" * SIZE,
        PROTOCOL + b")" + b"\x85" * SIZE,
        PROTOCOL + b"(t" * (SIZE // 2),
        PROTOCOL + named("collections", "OrderedDict") + b"q\0" + b"h\0)R" * (SIZE // 4) + b"0" * SIZE,
        PROTOCOL + b"}" + b"".join(b"r" + i.to_bytes(4, "little") for i in range(SIZE // 2)),
        PROTOCOL + b"}" + b"r\xff\xff\xff\xff" * (SIZE // 2),
        PROTOCOL + b"\x8a\xff" + b"\x7f" * SIZE,
        PROTOCOL + b"\x8b\xff\xff\xff\x7f\x01",
        PROTOCOL + b"\x96" + (2**40).to_bytes(8, "little"),
        PROTOCOL + b"B\xff\xff\xff\xff",
        PROTOCOL + b"\x8d" + (2**40).to_bytes(8, "little"),
        PROTOCOL + b"\x95" + (2**40).to_bytes(8, "little") + b"}.",
        PROTOCOL + b"}p999999999999\n.",
    ],
    ids=[
        *("marks", "dicts", "nested tuples", "tuples", "calls", "memo", "one memo", "long integers", "a huge integer"),
        *("a huge bytearray", "huge bytes", "a huge string", "a huge frame", "a far memo"),
    ],
)
def test_opcodes_cannot_allocate_without_bound(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masks.pickled.MAX_PICKLE_OPCODES", LIMIT)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            load(raw, "here")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The size of an object and its places on the stack and in the memo.
    assert peak < 200 * LIMIT + len(raw)


def test_a_far_place_in_the_memo_takes_no_more_than_a_near_one() -> None:
    tracemalloc.start()
    try:
        assert load(PROTOCOL + b"}r\xff\xff\xff\xff" + STOP, "here") == {}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


@given(st.data())
@quick
def test_changed_bytes_give_tensors_or_the_error(draw: st.DataObject) -> None:
    data = bytearray(GOOD)
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        assert all(type(value) is Tensor for value in load(bytes(data), "here").values())
    except CheckpointError:
        return


@given(
    st.lists(
        st.sampled_from([chr(code).encode("latin-1") for code in Unpickler.dispatch] + [b"\0", b"\1"]), max_size=40
    )
)
@quick
def test_any_sequence_of_the_opcodes_gives_tensors_or_the_error(codes: list[bytes]) -> None:
    try:
        load(PROTOCOL + b"}" + b"".join(codes) + STOP, "here")
    except CheckpointError:
        return
