import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from masks import FingerprintMismatch, Geometry, GeometryMismatch, InvalidMask, Mask, UnknownParameter
from tests.masks.samples import (
    BASE,
    HEAD,
    SHAPES,
    UP,
    any_mask,
    mask,
    members,
    meta,
    mixed,
    quick,
)


@pytest.mark.parametrize(
    "given_as",
    [[4, 1, 4], (1, 4), {1, 4}, np.array([4, 1], np.uint64), np.array([1, 4], np.int8), range(1, 5, 3)],
)
def test_indices_of_any_kind_come_out_sorted_unique_int32(given_as: Any) -> None:
    cut = mask({0: given_as}).neurons[0]
    assert cut.tolist() == [1, 4]
    assert cut.dtype == np.int32


def test_layers_may_be_numpy_integers_and_come_out_in_order() -> None:
    made = mask({np.int64(2): [1], 0: [2]})
    assert list(made.neurons) == [0, 2]
    assert all(type(layer) is int for layer in made.neurons)


def test_every_form_of_weights_gives_the_same_mask() -> None:
    for cut in ([5], list(range(0, 384, 3))):
        flags = np.zeros(SHAPES[HEAD], bool)
        flags.ravel()[cut] = True
        packed = np.packbits(flags.ravel(), bitorder="little")
        forms = [mask(weights={HEAD: form}) for form in (cut, np.array(cut), set(cut), flags, packed)]
        assert len({form.digest for form in forms}) == 1
        for form in forms:
            assert form.weight_indices(HEAD).tolist() == cut
            assert (form.weight_bits(HEAD) == flags).all()
            assert form.weight_bits(HEAD).dtype == np.bool_


def test_memory_is_one_bit_a_weight_where_dense_and_indices_where_sparse() -> None:
    assert mask(weights={HEAD: range(6)}).weights[HEAD].dtype == np.int64
    assert mask(weights={HEAD: range(7)}).weights[HEAD].dtype == np.uint8
    assert mask(weights={HEAD: range(200)}).weights[HEAD].nbytes == 48


def test_empty_entries_and_unused_shapes_are_dropped() -> None:
    made = mask({0: [], 1: [3]}, {2: np.array([], int)}, {HEAD: [], UP: np.zeros((5, 13), bool)})
    assert list(made.neurons) == [1]
    assert not made.heads
    assert not made.weights
    assert not made.meta.shapes
    assert made == mask({1: [3]}, shapes={})


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"neurons": {0: [40]}}, r"neurons\[0\]: index 40 .* 0 to 39"),
        ({"neurons": {0: [-1]}}, "index -1"),
        ({"neurons": {0: [2**31 + 1]}}, "index 2147483649"),
        ({"neurons": {0: np.array([2**64 - 1], np.uint64)}}, "index 18446744073709551615"),
        ({"neurons": {0: [2**70]}}, "flat list of integers"),
        ({"neurons": {0: [1.0]}}, "flat list of integers"),
        ({"neurons": {0: [[1]]}}, "flat list of integers"),
        ({"neurons": {0: np.ones(40, bool)}}, "flat list of integers"),
        ({"neurons": {0: 3}}, "flat list of integers"),
        ({"neurons": {3: [1]}}, "layers are 0 to 2"),
        ({"neurons": {-1: [1]}}, "layers are 0 to 2"),
        ({"neurons": {True: [1]}}, "layers are 0 to 2"),
        ({"neurons": {"0": [1]}}, "'0' is not an integer"),
        ({"heads": {0: [6]}}, r"heads\[0\]: index 6"),
        ({"weights": {HEAD: [384]}}, "index 384"),
        ({"weights": {HEAD: np.ones((24, 16), bool)}}, r"shape \(24, 16\)"),
        ({"weights": {HEAD: np.array([1, 2], np.uint8)}}, "packed bitmask"),
        ({"weights": {UP: np.array([0] * 8 + [2], np.uint8)}}, "beyond element 64"),
        ({"weights": {"lm_haed.weight": [1]}}, "has no shape"),
    ],
)
def test_what_does_not_fit_is_refused_and_named(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidMask, match=message):
        mask(**parts)


def test_a_meta_is_needed() -> None:
    with pytest.raises(InvalidMask, match="meta"):
        Mask({}, {}, {}, {"name": "a"})  # type: ignore[arg-type]


def test_nothing_of_a_mask_can_be_changed() -> None:
    given_array = np.array([1, 4], np.int32)
    made = mask({0: given_array}, weights={HEAD: range(200), UP: [1]})
    given_array[0] = 3
    assert made.neurons[0].tolist() == [1, 4]
    for array in (made.neurons[0], made.weights[HEAD], made.weights[UP]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 2
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.setflags(write=True)
    with pytest.raises(TypeError, match="immutable"):
        made.neurons[1] = given_array
    with pytest.raises(TypeError, match="immutable"):
        made.counts["neurons"] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.meta = meta()  # type: ignore[misc]


def test_copies_and_pickles_are_equal_and_as_unchangeable() -> None:
    for again in (copy.deepcopy(mixed()), pickle.loads(pickle.dumps(mixed())), dataclasses.replace(mixed())):
        assert again == mixed()
        assert hash(again) == hash(mixed())
        assert not again.neurons[0].flags.writeable


def test_counts_and_granularity() -> None:
    assert mixed().counts == {"neurons": 3, "heads": 2, "weights": 4}
    assert mixed().count == 9
    assert mixed().granularity == "mixed"
    assert mask({0: [1]}).granularity == "neuron"
    assert mask(heads={0: [1]}).granularity == "head"
    assert mask(weights={HEAD: [1]}).granularity == "weight"
    assert mask().granularity == "none"
    assert mask().count == 0
    assert mask(weights={HEAD: range(384)}).count == 384


def test_a_parameter_that_is_not_cut_is_named_with_near_ones() -> None:
    with pytest.raises(UnknownParameter, match=r"lm_head\.weight"):
        mixed().weight_indices("lm_haed.weight")
    with pytest.raises(UnknownParameter, match="no weights"):
        mask().weight_bits("a")


def test_with_meta_changes_only_what_it_is_given() -> None:
    renamed = mixed().with_meta(name="detox", measured={"toxicity": 0.1})
    assert renamed.name == "detox"
    assert renamed.meta.measured == {"toxicity": 0.1}
    assert renamed.meta.made == mixed().meta.made
    assert members(renamed) == members(mixed())
    assert renamed.digest != mixed().digest
    assert mixed().with_meta(measured={}).meta.measured == {}


@given(any_mask, any_mask)
@quick
def test_set_algebra_is_that_of_sets(left: Mask, right: Mask) -> None:
    a, b = members(left), members(right)
    for result, expected in ((left | right, a | b), (left & right, a & b), (left - right, a - b)):
        assert members(result) == expected
    assert left.overlap(right) == (len(a & b) / len(a | b) if a | b else 1.0)


@given(any_mask)
@quick
def test_a_mask_with_itself(made: Mask) -> None:
    assert made.overlap(made) == 1.0
    assert members(made | made) == members(made & made) == members(made)
    assert (made - made).count == 0


def test_a_result_says_how_it_was_made() -> None:
    a, b = mask({0: [1]}, name="a"), mask({0: [2]}, name="b", created_at="2026-12-01T00:00:00Z")
    union = a | b
    assert union.name == "a-or-b"
    assert (a & b).name == "a-and-b"
    assert (a - b).name == "a-minus-b"
    assert union.meta.made == {"operation": "|", "operands": [a.digest, b.digest]}
    assert union.meta.measured == {}
    assert union.meta.created_at == "2026-12-01T00:00:00Z"
    assert union.digest == (a | b).digest


def test_long_names_are_cut_on_both_sides() -> None:
    name = (mask(name="a" * 64) - mask(name="b" * 64)).name
    assert len(name) <= 64
    assert name.startswith("aaa")
    assert "-minus-b" in name


def test_masks_of_two_models_do_not_combine() -> None:
    other = mask(base=dataclasses.replace(BASE, fingerprint="f" * 64))
    for combine in (mask().__or__, mask().__and__, mask().__sub__, mask().overlap):
        with pytest.raises(FingerprintMismatch, match=rf"{BASE.fingerprint}(.|\n)*{'f' * 64}"):
            combine(other)


def test_masks_that_disagree_on_shapes_do_not_combine() -> None:
    other = mask(weights={HEAD: [1]}, shapes={HEAD: (24, 16)})
    with pytest.raises(GeometryMismatch, match=r"lm_head\.weight"):
        mixed() | other
    with pytest.raises(GeometryMismatch, match="two geometries"):
        mask() | mask(base=dataclasses.replace(BASE, geometry=Geometry(1, 1, 1, 1, 1)))


def test_masks_of_different_parameters_combine() -> None:
    union = mask(weights={HEAD: [1]}) | mask(weights={UP: range(60)})
    assert union.meta.shapes == SHAPES
    assert union.counts["weights"] == 61


def test_only_masks_combine_and_compare() -> None:
    with pytest.raises(TypeError):
        mask() | {1}  # type: ignore[operator]
    assert mask() != "mask"


def test_the_repr_says_what_is_cut() -> None:
    assert repr(mixed()) == "<Mask sample of example/tiny: 3 neurons, 2 heads, 4 weights>"
    assert repr(mask()) == "<Mask sample of example/tiny: nothing>"
