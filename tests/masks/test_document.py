import copy
import json
import pickle
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from masks import CorruptMask, InvalidMask, MaskTooLarge
from masks.document import decode, encode, freeze
from tests.masks.samples import json_values, meta, quick


@given(json_values)
@quick
def test_what_is_written_reads_back_the_same(value: Any) -> None:
    frozen = freeze(value, "value")
    text = encode(frozen)
    assert text.isascii()
    assert decode(text.encode(), "value", depth=16) == frozen == value
    assert encode(decode(text.encode(), "value", depth=16)) == text


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        np.float32("nan"),
        2**64,
        -(2**63) - 1,
        {1: 2},
        {"a": {1, 2}},
        b"bytes",
        "\ud800",
        {"\udfff": 1},
        np.zeros(3),
    ],
)
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(InvalidMask, match="made"):
        meta(made={"key": value})


def test_numpy_scalars_become_numbers() -> None:
    made = meta(made={"count": np.int64(3), "fraction": np.float32(0.5), "on": np.bool_(True)}).made
    assert made == {"count": 3, "fraction": 0.5, "on": True}
    assert [type(value) for value in made.values()] == [int, float, bool]


def test_values_cannot_be_changed_at_any_depth() -> None:
    settings: dict[str, Any] = {"list": [1, {"deep": 2}], "dict": {"a": 1}}
    made = meta(made=settings).made
    settings["list"].append("changed by the caller")
    assert made == {"list": [1, {"deep": 2}], "dict": {"a": 1}}
    for change in (
        lambda: made.update(a=1),
        lambda: made.__setitem__("a", 1),
        lambda: made.pop("list"),
        lambda: made["list"].append(1),
        lambda: made["list"].sort(),
        lambda: made["list"][1].clear(),
        lambda: made["dict"].setdefault("b", 1),
    ):
        with pytest.raises(TypeError, match="immutable"):
            change()


def test_frozen_values_serialise_and_copy_as_plain_ones() -> None:
    original = meta(made={"list": [1, {"deep": 2}]})
    assert json.loads(json.dumps(original.made)) == original.made
    assert copy.deepcopy(original) == original
    assert pickle.loads(pickle.dumps(original)) == original
    assert asdict(original)["made"] == original.made


def test_a_value_nested_too_deep_is_refused_on_writing() -> None:
    deep: Any = 1
    for _ in range(14):
        deep = [deep]
    meta(made={"deep": deep})
    with pytest.raises(InvalidMask, match="too deep"):
        meta(made={"deep": [deep]})


def test_nesting_is_counted_before_parsing() -> None:
    bomb = b"[" * 1_000_000
    with pytest.raises(MaskTooLarge, match="1000000 deep"):
        decode(bomb, "it", depth=16)


def test_brackets_in_strings_do_not_count() -> None:
    text = json.dumps(["[[[[{{{{", 'a"[[\\', "\\"])
    assert decode(text.encode(), "it", depth=1, containers=1) == json.loads(text)


def test_the_number_of_containers_is_limited() -> None:
    with pytest.raises(MaskTooLarge, match="more than 3"):
        decode(b"[[],[],[]]", "it", depth=4, containers=3)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"a":1,"b":{"c":1,"c":2}}', "'c' appears twice"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "-Infinity"),
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'"\xff"', "not JSON"),
        ('{"a":1}'.encode("utf-16"), "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"9" * 5000, "not JSON"),
        (b"{} {}", "not JSON"),
    ],
)
def test_malformed_text_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(CorruptMask, match=message):
        decode(raw, "it", depth=4)


def test_many_keys_with_one_duplicate_take_no_quadratic_time() -> None:
    pairs = [f'"{number}":0' for number in range(200_000)]
    with pytest.raises(CorruptMask, match="twice"):
        decode(("{" + ",".join([*pairs, pairs[-1]]) + "}").encode(), "it", depth=1)
