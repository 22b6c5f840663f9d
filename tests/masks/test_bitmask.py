import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from masks import InvalidMask, bitmask
from tests.masks.samples import quick


def test_element_i_is_bit_i_mod_8_of_byte_i_div_8() -> None:
    bits = bitmask.pack(np.array([0, 3, 8, 17]), 18)
    assert bits.tolist() == [0b00001001, 0b00000001, 0b00000010]
    assert bits.dtype == np.uint8


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
@quick
def test_pack_and_unpack_are_inverse(case: tuple[int, set[int]]) -> None:
    elements, members = case
    bits = bitmask.pack(np.array(sorted(members), np.int64), elements)
    indices = bitmask.unpack(bits)
    assert indices.dtype == np.int64
    assert indices.tolist() == sorted(members)
    assert bitmask.count(bits) == bitmask.count(indices) == len(members)
    flags = np.zeros(elements, bool)
    flags[list(members)] = True
    for form in (bitmask.from_flags(flags), bitmask.canonical(bits, elements), bitmask.canonical(indices, elements)):
        assert form.dtype == (np.uint8 if len(members) * 64 > elements else np.int64)
        assert (bitmask.unpack(form) if bitmask.is_packed(form) else form).tolist() == sorted(members)


@pytest.mark.parametrize("elements", [64, 640, 6400])
def test_exactly_one_in_64_is_still_indices(elements: int) -> None:
    boundary = elements // 64
    at, above = np.arange(boundary), np.arange(boundary + 1)
    assert bitmask.canonical(at, elements).dtype == np.int64
    assert bitmask.canonical(above, elements).dtype == np.uint8
    assert bitmask.canonical(bitmask.pack(at, elements), elements).tolist() == at.tolist()
    # So the smaller form is taken, on both sides.
    assert bitmask.canonical(at, elements).nbytes <= bitmask.packed_bytes(elements)
    assert bitmask.canonical(above, elements).nbytes < above.size * 8


@pytest.mark.parametrize("bits", [[0], [0, 0, 0], [0, 0b100]])
def test_a_bitmask_of_another_length_or_with_stray_bits_is_refused(bits: list[int]) -> None:
    with pytest.raises(InvalidMask, match="bitmask"):
        bitmask.check_packed(np.array(bits, np.uint8), 10, "it")
