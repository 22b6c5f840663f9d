"""Bytes that somebody else wrote: only a `MaskError`, or a mask that would be written the same, may come out."""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from masks import CorruptMask, Mask, MaskError, MaskTooLarge, UnsupportedVersion, dumps, loads
from masks.header import BITS
from masks.limits import MAX_HEADER_BYTES
from tests.masks.samples import HEAD, UP, any_mask, compact, dampening, forge, framed, mixed, quick, take_apart

DATA = dumps(mixed())
GRADED = dumps(dampening())


def only_a_mask_error_or_the_same_bytes(data: bytes) -> None:
    try:
        made = loads(data)
    except MaskError:
        return
    assert dumps(made) == data


def test_the_forge_makes_what_the_writer_makes() -> None:
    assert forge(*take_apart(DATA)) == DATA
    assert forge(*take_apart(GRADED)) == GRADED


def test_cut_off_at_every_byte() -> None:
    for whole in (DATA, GRADED):
        for length in range(len(whole)):
            with pytest.raises(CorruptMask):
                loads(whole[:length])


def test_a_byte_too_many() -> None:
    with pytest.raises(CorruptMask, match="37 bytes of data but the file holds 38"):
        loads(DATA + b"\0")


@given(st.binary(max_size=200))
@quick
def test_random_bytes(data: bytes) -> None:
    with pytest.raises(MaskError):
        loads(data)
    with pytest.raises(MaskError):
        loads(framed(data))


@given(any_mask, st.data())
@quick
def test_flipped_bytes(made: Mask, draw: st.DataObject) -> None:
    data = bytearray(dumps(made))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    only_a_mask_error_or_the_same_bytes(bytes(data))


@pytest.mark.parametrize("whole", [DATA, GRADED], ids=["cut", "dampened"])
def test_every_single_bit_flip_of_a_file(whole: bytes) -> None:
    for position in range(len(whole)):
        for bit in (0, 1, 3, 6):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << bit
            only_a_mask_error_or_the_same_bytes(bytes(flipped))


json_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
PATHS = ["name", "base", "base.id", "base.architecture", "base.fingerprint", "base.geometry", "base.geometry.layers"]
PATHS += ["base.geometry.neurons", "shapes", f"shapes/{HEAD}", "created_at", "made", "measured", "format"]


@given(st.sampled_from(PATHS), json_anything)
@example("base.geometry.layers", True)
@example("name", ["sample"])
@quick
def test_anything_in_place_of_a_value_of_the_document(path: str, value: Any) -> None:
    header, document, data = take_apart(DATA)
    place: Any = document
    *parents, last = path.split("/") if "/" in path else path.split(".")
    for key in parents:
        place = place[key]
    place[last] = value
    only_a_mask_error_or_the_same_bytes(forge(header, document, data))


@given(st.sampled_from(["dtype", "shape", "data_offsets"]), json_anything)
@quick
def test_anything_in_place_of_a_value_of_the_header(key: str, value: Any) -> None:
    header, document, data = take_apart(DATA)
    header["neurons.0"][key] = value
    with pytest.raises(MaskError):
        loads(forge(header, document, data))


# Named faults: (what, change to header, document and data, error, message)

Parts = tuple[dict[str, Any], dict[str, Any], bytearray]


def put(path: str, value: Any) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        place: Any = {"header": parts[0], "document": parts[1]}
        *parents, last = path.split("/")
        for key in parents:
            place = place[key]
        if value is KeyError:
            del place[last]
        else:
            place[last] = value

    return change


def write(position: int, value: bytes) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts[2][position : position + len(value)] = value

    return change


def rename(old: str, new: str) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        items = [(new if name == old else name, entry) for name, entry in parts[0].items()]
        parts[0].clear()
        parts[0].update(items)

    return change


N0, N2, LM, UPW = "header/neurons.0", "header/neurons.2", f"header/weights.{HEAD}", f"header/weights.{UP}"
FAULTS: dict[str, tuple[Callable[[Parts], None], type[MaskError], str]] = {
    "overlap": (put(f"{N2}/data_offsets", [20, 24]), CorruptMask, "overlaps"),
    "gap": (put(f"{N2}/data_offsets", [25, 29]), CorruptMask, "gap"),
    "two tensors on one place": (
        put(f"{N2}", {"dtype": "I32", "shape": [2], "data_offsets": [16, 24]}),
        CorruptMask,
        "over",
    ),
    "descending offsets": (put(f"{N2}/data_offsets", [28, 24]), CorruptMask, "ascending"),
    "negative offset": (put(f"{N2}/data_offsets", [-4, 0]), CorruptMask, "sizes"),
    "huge offsets": (put(f"{N2}/data_offsets", [2**62, 2**62 + 4]), CorruptMask, "overlaps|gap|take"),
    "claim of 2**60 elements": (put(f"{N2}/shape", [2**60]), CorruptMask, "do not hold"),
    "claim of 2**60 elements, offsets too": (
        put(N2, {"dtype": "I32", "shape": [2**60], "data_offsets": [24, 24 + 2**62]}),
        CorruptMask,
        "overlaps|gap|take",
    ),
    "product that wraps in 64 bits": (put(f"{N2}/shape", [2**32, 2**32, 1]), CorruptMask, "do not hold"),
    "two dimensions": (put(f"{N2}/shape", [1, 1]), CorruptMask, "one dimension"),
    "no dimension": (put(f"{N2}/shape", []), CorruptMask, "one dimension"),
    "size as a boolean": (put(f"{N2}/shape", [True]), CorruptMask, "sizes"),
    "size as a float": (put(f"{N2}/shape", [1.0]), CorruptMask, "sizes"),
    "empty tensor": (
        put("header/neurons.1", {"dtype": "I32", "shape": [0], "data_offsets": [37, 37]}),
        CorruptMask,
        "1 to 40",
    ),
    "entry with another key": (put(f"{N2}/extra", 1), CorruptMask, "exactly"),
    "entry without dtype": (put(f"{N2}/dtype", KeyError), CorruptMask, "exactly"),
    "entry that is no object": (put(N2, [1]), CorruptMask, "exactly"),
    "float indices": (put(f"{N2}/dtype", "F32"), CorruptMask, "dtype is 'F32'"),
    "unsigned indices": (put(f"{N2}/dtype", "U32"), CorruptMask, "dtype is 'U32'"),
    "unknown dtype": (put(f"{N2}/dtype", "X9"), CorruptMask, "dtype is 'X9'"),
    "neurons as int64": (
        put(N0, {"dtype": "I64", "shape": [1], "data_offsets": [16, 24]}),
        CorruptMask,
        "dtype is 'I64'",
    ),
    "weights as int32": (
        put(LM, {"dtype": "I32", "shape": [2], "data_offsets": [0, 8]}),
        CorruptMask,
        "dtype is 'I32'",
    ),
    "unsorted": (write(16, bytes([4, 0, 0, 0, 1])), CorruptMask, r"\[4, 1\], not ascending"),
    "duplicate": (write(16, bytes([4, 0, 0, 0, 4])), CorruptMask, r"\[4, 4\], not ascending"),
    "negative": (write(16, b"\xff\xff\xff\xff"), CorruptMask, "index -1"),
    "out of range": (write(24, bytes([40])), CorruptMask, "index 40"),
    "head out of range": (write(12, bytes([6])), CorruptMask, "index 6"),
    "weight out of range": (write(0, (384).to_bytes(8, "little")), CorruptMask, "index 384"),
    "bits beyond the last element": (write(36, bytes([3])), CorruptMask, "beyond element 64"),
    "bitmask where indices are due": (write(28, bytes(8)), CorruptMask, "at most 1/64"),
    "bitmask of another length": (
        put(f"document/shapes/{UP}", [5, 15]),
        CorruptMask,
        "10 bytes for 75 elements",
    ),
    "indices where a bitmask is due": (put(f"document/shapes/{HEAD}", [5, 12]), CorruptMask, "more than 1/64"),
    "fewer layers": (put("document/base/geometry/layers", 2), CorruptMask, "layers 0 to 1"),
    "fewer neurons": (put("document/base/geometry/neurons", 39), CorruptMask, "0 to 38"),
    "no layers": (put("document/base/geometry/layers", 0), CorruptMask, "positive"),
    "layers as a boolean": (put("document/base/geometry/layers", True), CorruptMask, "positive"),
    "too many layers": (put("document/base/geometry/layers", 5000), MaskTooLarge, "layers"),
    "too many neurons": (put("document/base/geometry/neurons", 2**40), MaskTooLarge, "neurons"),
    "too many elements": (put(f"document/shapes/{HEAD}", [2**31, 2**31]), MaskTooLarge, "elements"),
    "shape of three": (put(f"document/shapes/{HEAD}", [4, 4, 24]), CorruptMask, "two positive"),
    "shape without its tensor": (put("document/shapes/a", [1, 1]), CorruptMask, "no weight is cut"),
    "tensor without its shape": (put(f"document/shapes/{HEAD}", KeyError), CorruptMask, "shape in the document"),
    "layer with a leading zero": (rename("neurons.0", "neurons.00"), CorruptMask, "must be"),
    "layer in other digits": (rename("neurons.0", "neurons.٠"), CorruptMask, "must be"),
    "negative layer": (rename("neurons.0", "neurons.-1"), CorruptMask, "must be"),
    "huge layer": (rename("neurons.0", "neurons.99999"), CorruptMask, "layers 0 to 2"),
    "unknown kind": (rename("neurons.0", "channels.0"), CorruptMask, "must be"),
    "path as a tensor": (rename("neurons.0", "../../etc/passwd"), CorruptMask, "must be"),
    "no name": (rename("neurons.0", ""), CorruptMask, "must be"),
    "half a surrogate pair as a tensor": (rename("neurons.0", "\ud800"), CorruptMask, "not Unicode"),
    "path as a parameter": (put("document/shapes/..~etc~passwd", [1, 1]), CorruptMask, "not a parameter name"),
    "path as a name": (put("document/name", "../../etc/passwd"), CorruptMask, "cannot name"),
    "base as a name": (put("document/name", "base"), CorruptMask, "cannot name"),
    "short fingerprint": (put("document/base/fingerprint", "00"), CorruptMask, "64 hexadecimal"),
    "control characters in the id": (put("document/base/id", "a\x1b[2J"), CorruptMask, "printable"),
    "time with an offset": (put("document/created_at", "2026-11-30T12:00:00+01:00"), CorruptMask, "created_at"),
    "half a surrogate pair": (put("document/made", {"a": "\ud800"}), CorruptMask, "surrogate"),
    "huge integer": (put("document/made", {"a": 2**64}), CorruptMask, "64 bits"),
    "made as a list": (put("document/made", []), CorruptMask, "made must be"),
    "unknown key": (put("document/extra", 1), CorruptMask, r"unknown keys \['extra'\]"),
    "unknown key in base": (put("document/base/extra", 1), CorruptMask, "unknown keys"),
    "unknown key in geometry": (put("document/base/geometry/extra", 1), CorruptMask, "unknown keys"),
    "missing key": (put("document/measured", KeyError), CorruptMask, r"missing keys \['measured'\]"),
    "newer version": (put("document/format", 3), UnsupportedVersion, "format version 3"),
    "version 2 without gates": (put("document/format", 2), CorruptMask, "version 2 without gates"),
    "version 0": (put("document/format", 0), UnsupportedVersion, "format version 0"),
    "version as a boolean": (put("document/format", True), CorruptMask, "format"),
    "no version": (put("document/format", KeyError), CorruptMask, "format"),
    "deep made": (put("document/made", json.loads('{"a":' * 20 + "1" + "}" * 20)), MaskTooLarge, "nested"),
}


GN = "header/gates.neurons.0"


def moved(name: str) -> Callable[[Parts], None]:
    """Rename the codes of layer 0, and put the tensors in the order that the new name needs."""

    def change(parts: Parts) -> None:
        rename("gates.neurons.0", name)(parts)
        entries = sorted(parts[0].items(), key=lambda item: (-BITS[item[1]["dtype"]], item[0]))
        position, data = 0, bytearray()
        for _, entry in entries:
            begin, end = entry["data_offsets"]
            data += parts[2][begin:end]
            entry["data_offsets"] = [position, position + end - begin]
            position += end - begin
        parts[0].clear()
        parts[0].update(entries)
        parts[2][:] = data

    return change


GRADED_FAULTS: dict[str, tuple[Callable[[Parts], None], type[MaskError], str]] = {
    "a code of no gate": (write(30, bytes([3])), CorruptMask, "code 3 is of no gate"),
    "the largest code": (write(30, bytes([255])), CorruptMask, "code 255 is of no gate"),
    "codes of which none dampens": (write(30, bytes([0])), CorruptMask, "gates.neurons.0: every code is 0"),
    "gates in version 1": (put("document/format", 1), CorruptMask, "format version 1 has no gates"),
    "codes as int32": (
        put(GN, {"dtype": "I32", "shape": [1], "data_offsets": [28, 32]}), CorruptMask, "dtype is 'I32'|overlaps"
    ),
    "codes of a layer without indices": (moved("gates.neurons.1"), CorruptMask, "no component is listed"),
    "codes of fewer components": (moved("gates.neurons.2"), CorruptMask, "must be 1 integers"),
    "codes of a layer beyond the last": (moved("gates.neurons.3"), CorruptMask, "layers 0 to 2"),
    "codes of weights": (moved(f"gates.weights.{HEAD}"), CorruptMask, "must be"),
    "codes of no layer": (moved("gates.neurons"), CorruptMask, "must be"),
    "codes of codes": (moved("gates.gates.neurons.0"), CorruptMask, "must be"),
    "claim of 2**60 codes": (put(f"{GN}/shape", [2**60]), CorruptMask, "do not hold"),
    "claim of 2**60 codes, offsets too": (
        put(GN, {"dtype": "U8", "shape": [2**60], "data_offsets": [30, 30 + 2**60]}), CorruptMask, "overlaps|gap|take"
    ),
    "no codes": (put("header/gates.neurons.2", {"dtype": "U8", "shape": [0], "data_offsets": [32, 32]}), CorruptMask,
                 "1 to 40"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_named_fault_gets_its_error(fault: str) -> None:
    refused(DATA, *FAULTS[fault])


@pytest.mark.parametrize("fault", GRADED_FAULTS)
def test_a_named_fault_in_gates_gets_its_error(fault: str) -> None:
    refused(GRADED, *GRADED_FAULTS[fault])


def refused(whole: bytes, change: Callable[[Parts], None], error: type[MaskError], message: str) -> None:
    header, document, data = take_apart(whole)
    parts = header, document, bytearray(data)
    change(parts)
    with pytest.raises(error, match=message) as caught:
        loads(forge(parts[0], parts[1], bytes(parts[2])))
    assert type(caught.value) is error


def test_a_newer_version_is_told_apart_whatever_else_it_holds() -> None:
    with pytest.raises(UnsupportedVersion, match="Update Excise"):
        loads(forge({}, {"format": 7, "new": {}}, b""))


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(take_apart(DATA)[1], sort_keys=True),
        compact(take_apart(DATA)[1]).replace('"count":3', '"count":3e0'),
        compact(take_apart(DATA)[1]).replace("12.5", "12.50"),
        compact(take_apart(DATA)[1]).replace("lrp", "\\u006crp"),
        compact(take_apart(DATA)[1]).replace("lrp", "é"),
        json.dumps(take_apart(DATA)[1], separators=(",", ":"))
        .replace('"format":1,', "")
        .replace("{", '{"format":1,', 1),
    ],
)
def test_another_text_of_the_same_document_is_refused(text: str) -> None:
    header, document, data = take_apart(DATA)
    assert forge(header, document, data) == DATA
    with pytest.raises(CorruptMask, match="canonical form"):
        loads(forge(header, text, data))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"name":"sample"', '"name":"sample","name":"other"', "'name' appears twice"),
        ("12.5", "NaN", "NaN"),
        ("12.5", "Infinity", "Infinity"),
        ("12.5", "1e999", "not a JSON number"),
        ("12.5", "9" * 5000, "not JSON"),
        ("}}", "}", "not JSON"),
    ],
)
def test_a_document_that_is_not_plain_json_is_refused(old: str, new: str, message: str) -> None:
    header, document, data = take_apart(DATA)
    with pytest.raises(CorruptMask, match=message):
        loads(forge(header, compact(document).replace(old, new), data))


def test_another_text_of_the_same_header_is_refused() -> None:
    length = int.from_bytes(DATA[:8], "little")
    raw, data = DATA[8 : 8 + length], DATA[8 + length :]
    header = json.loads(raw)
    backwards = {"__metadata__": header.pop("__metadata__"), **dict(reversed(header.items()))}
    others = [
        raw.rstrip(b" ") + b" " * 16,
        b" " * 8 + raw,
        raw.replace(b'"dtype"', b' "dtype"', 1),
        raw.replace(b"neurons.0", b"n\\u0065urons.0", 1),
        json.dumps(backwards, separators=(",", ":")).encode(),
    ]
    for other in others:
        with pytest.raises(CorruptMask, match="canonical form"):
            loads(framed(other, data))
    unpadded = raw.rstrip(b" ")
    if unpadded != raw:
        with pytest.raises(CorruptMask, match="canonical form"):
            loads(len(unpadded).to_bytes(8, "little") + unpadded + data)


@pytest.mark.parametrize(
    "header",
    [
        "[]",
        "null",
        '"text"',
        "{}",
        '{"__metadata__":null}',
        '{"__metadata__":{}}',
        '{"__metadata__":{"excise":3}}',
        '{"__metadata__":{"excise":"3"}}',
        '{"__metadata__":{"excise":"{}"}}',
        '{"__metadata__":{"excise":"\\ud800"}}',
        '{"__metadata__":{"format":"pt"}}',
        '{"__metadata__":{"excise":"{}","format":"pt"}}',
        '{"__metadata__":{"excise":"{}"},"__metadata__":{"excise":"{}"}}',
        '{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}',
        "PK\x03\x04 not json at all",
        "\x80\x04\x95 a pickle.",
    ],
)
def test_a_header_of_something_else_is_refused(header: str) -> None:
    with pytest.raises(CorruptMask):
        loads(framed(header))


def test_zero_bytes() -> None:
    for size in (0, 1, 7, 8, 9, 100, 10_000):
        with pytest.raises(CorruptMask):
            loads(bytes(size))


def peak_of(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(MaskError):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "fault",
    [
        name
        for name in (*FAULTS, *GRADED_FAULTS)
        if name.startswith(("claim", "huge", "too many", "product", "bitmask of"))
    ],
)
def test_a_claim_of_a_huge_size_allocates_nothing(fault: str) -> None:
    faults, whole = (FAULTS, DATA) if fault in FAULTS else (GRADED_FAULTS, GRADED)
    header, document, data = take_apart(whole)
    parts = header, document, bytearray(data)
    faults[fault][0](parts)
    forged = forge(parts[0], parts[1], bytes(parts[2]))
    assert peak_of(lambda: loads(forged)) < 200_000


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**60, 100_000_001])
def test_an_oversized_header_allocates_nothing(length: int) -> None:
    forged = length.to_bytes(8, "little") + DATA[8:]
    assert peak_of(lambda: loads(forged)) < 200_000


def test_a_header_over_the_limit_is_not_parsed() -> None:
    forged = (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + bytes(MAX_HEADER_BYTES + 1)
    with pytest.raises(MaskTooLarge, match="header"):
        loads(forged)
    assert peak_of(lambda: loads(forged)) < 200_000


def test_a_sparse_set_over_a_huge_parameter_stays_small() -> None:
    header, document, data = take_apart(DATA)
    document["shapes"][HEAD] = [2**17, 2**17]
    forged = forge(header, document, data)
    tracemalloc.start()
    made = loads(forged)
    union, overlap = made | made, made.overlap(made)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000
    assert union.weight_indices(HEAD).tolist() == [7]
    assert overlap == 1.0


@pytest.mark.parametrize("bomb", ["[" * 100_000, '{"a":' * 100_000, "[[" * 50_000 + "]]" * 50_000])
def test_deep_json_is_refused_in_header_and_document(bomb: str) -> None:
    with pytest.raises(MaskTooLarge, match="nested"):
        loads(framed(bomb))
    with pytest.raises(MaskTooLarge, match="nested"):
        loads(forge({}, bomb, b""))


def test_a_header_of_very_many_objects_is_not_built() -> None:
    forged = framed('{"__metadata__":{"excise":"{}"},"a":[' + "[]," * 300_000 + "[]]}")
    with pytest.raises(MaskTooLarge, match="objects and lists"):
        loads(forged)
