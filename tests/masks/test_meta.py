from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from masks import InvalidMask, MaskTooLarge
from masks.limits import MAX_DOCUMENT_BYTES
from masks.meta import check_created_at, now
from tests.masks.samples import meta


@pytest.mark.parametrize("name", ["a", "0", "detox-2.1_x", "a" * 64])
def test_names_that_are_taken(name: str) -> None:
    assert meta(name=name).name == name


@pytest.mark.parametrize(
    "name", ["", "base", "Detox", "-a", ".a", "../etc", "a/b", "a b", "a\n", "é", "a" * 65, "٣", None, 3, b"a"]
)
def test_names_that_are_refused(name: Any) -> None:
    with pytest.raises(InvalidMask, match="name"):
        meta(name=name)


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-30",
        "2026-11-30T12:00:00",
        "2026-11-30T12:00:00+00:00",
        "2026-11-30T12:00:00.5Z",
        "2026-1-3T1:0:0Z",
        "2026-02-30T12:00:00Z",
        "",
        None,
        0,
    ],
)
def test_times_that_are_refused(time: Any) -> None:
    with pytest.raises(InvalidMask, match="created_at"):
        meta(created_at=time)


def test_the_present_time_is_one_that_is_taken() -> None:
    check_created_at(now())


@pytest.mark.parametrize(
    "shapes",
    [
        None,
        {"a": (3,)},
        {"a": (3, 0)},
        {"a": (3, 4, 5)},
        {"a": (3, 4.0)},
        {"a": (True, 3)},
        {"a": "34"},
        {"": (3, 4)},
        {"a..b": (3, 4)},
        {"../a": (3, 4)},
        {"a/b": (3, 4)},
        {"a" * 257: (3, 4)},
        {3: (3, 4)},
        {"a\n": (3, 4)},
    ],
)
def test_shapes_that_are_refused(shapes: Any) -> None:
    with pytest.raises(InvalidMask, match="shape"):
        meta(shapes=shapes)


def test_a_parameter_over_the_limit_is_refused() -> None:
    with pytest.raises(MaskTooLarge, match="elements"):
        meta(shapes={"a": (2**30, 2**30)})


def test_a_document_over_the_limit_is_refused() -> None:
    with pytest.raises(MaskTooLarge, match="document"):
        meta(made={"text": "a" * MAX_DOCUMENT_BYTES})


@pytest.mark.parametrize("field", ["made", "measured"])
def test_made_and_measured_are_objects(field: str) -> None:
    with pytest.raises(InvalidMask, match=field):
        meta(**{field: [1]})


def test_meta_is_frozen_and_hashable() -> None:
    with pytest.raises(FrozenInstanceError):
        meta().name = "other"  # type: ignore[misc]
    assert hash(meta()) == hash(meta())
