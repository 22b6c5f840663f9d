import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from masks import InvalidMask, Mask, loads
from tests.masks.samples import any_mask, dampening, gates_of, mask, members, meta, mixed, quick


def test_a_layer_may_be_given_as_index_to_gate_in_any_order() -> None:
    made = mask({0: {4: 0, 1: 0.25, 7: np.float32(0.5), 9: 1.0}}, {2: {np.int64(3): 0.5}})
    assert made.neurons[0].tolist() == [1, 4, 7]
    assert made.gate_values("neurons", 0).tolist() == [0.25, 0, 0.5]
    assert made.gate_values("neurons", 0).dtype == np.float32
    assert made.gates["neurons"][0].tolist() == [1, 0, 2]
    assert made.gates["neurons"][0].dtype == np.uint8
    assert made.gate_values("heads", 2).tolist() == [0.5]
    assert made.counts == {"neurons": 3, "heads": 1, "weights": 0}
    assert made.dampened == 3
    assert made.version == 2


def test_a_mask_that_only_cuts_has_no_gates_however_it_was_given() -> None:
    plain = mask({0: [1, 4]})
    for again in (mask({0: {1: 0, 4: 0.0, 5: 1}}), mask({0: [1, 4]}, gates={"neurons": {0: [0, 0]}})):
        assert again == plain
        assert not again.gates
        assert again.dampened == 0
        assert again.version == 1
        assert again.gate_values("neurons", 0).tolist() == [0, 0]
    assert mask({0: {3: 1.0}}) == mask()


def test_indices_and_codes_are_the_same_mask_as_index_to_gate() -> None:
    again = mask({0: [1, 4], 2: [39]}, {1: [0, 5]}, gates={"neurons": {0: [1, 0]}, "heads": {1: np.array([2, 1])}})
    assert gates_of(again) == gates_of(mask({0: {1: 0.25, 4: 0}, 2: [39]}, {1: {0: 0.5, 5: 0.25}}))


def test_gates_are_in_the_digest() -> None:
    made = {mask({0: {1: gate, 2: 0}}).digest for gate in (0, 0.25, 0.5, 1)}
    assert len(made) == 4


@pytest.mark.parametrize("gate", [0.3, 2, -0.25, True, "0.25", None, float("nan"), [0.5], np.True_, 10**400, 0.25 + 0j])
def test_other_gates_are_refused(gate: Any) -> None:
    with pytest.raises(InvalidMask, match=r"neurons\[0\]: 3: gate .* is not one of"):
        mask({0: {3: gate}})


@pytest.mark.parametrize(
    ("listed", "gates", "message"),
    [
        ({0: [1, 4]}, {"neurons": {0: [1]}}, r"gates\.neurons\[0\]: must be 2 integers"),
        ({0: [1, 4]}, {"neurons": {0: [1, 2, 0]}}, "must be 2 integers"),
        ({0: [1, 4]}, {"neurons": {0: [[1, 2]]}}, "must be 2 integers"),
        ({0: [1, 4]}, {"neurons": {0: [0.25, 0.5]}}, "must be 2 integers"),
        ({0: [1, 4]}, {"neurons": {0: [0, 3]}}, "code 3 is of no gate"),
        ({0: [1, 4]}, {"neurons": {0: [-1, 0]}}, "code -1 is of no gate"),
        ({0: [4, 1]}, {"neurons": {0: [1, 0]}}, "ascend strictly"),
        ({0: [1, 1]}, {"neurons": {0: [1, 0]}}, "ascend strictly"),
        ({0: {1: 0.5}}, {"neurons": {0: [1]}}, "takes no codes"),
        ({0: [1]}, {"neurons": {1: [1]}}, r"gates\.neurons\[1\]: codes of a layer"),
        ({0: []}, {"neurons": {0: []}}, "codes of a layer"),
        ({0: [1]}, {"weights": {"a": [1]}}, "no kind of component with gates"),
        ({0: {40: 0.5}}, None, r"neurons\[0\]: index 40"),
        ({0: {1.5: 0.5}}, None, "flat list of integers"),
        ({3: {1: 0.5}}, None, "layers are 0 to 2"),
    ],
)
def test_what_does_not_fit_is_refused_and_named(listed: Any, gates: Any, message: str) -> None:
    with pytest.raises(InvalidMask, match=message):
        Mask(listed, {}, {}, meta(), gates)


def test_weights_are_only_cut() -> None:
    with pytest.raises(InvalidMask, match="flat list of integers"):
        mask(weights={"lm_head.weight": {3: 0.5}})


def test_gates_cannot_be_changed() -> None:
    codes = np.array([1, 0], np.uint8)
    made = mask({0: [1, 4]}, gates={"neurons": {0: codes}})
    codes[0] = 2
    assert made.gate_values("neurons", 0).tolist() == [0.25, 0]
    for read in (made, loads(made.dumps())):
        with pytest.raises(ValueError, match="WRITEABLE"):
            read.gates["neurons"][0].setflags(write=True)
        with pytest.raises(TypeError, match="immutable"):
            read.gates["neurons"] = {}
        with pytest.raises(TypeError, match="immutable"):
            read.gates["neurons"][0] = codes


def test_gates_of_a_layer_that_is_not_listed() -> None:
    with pytest.raises(KeyError):
        dampening().gate_values("neurons", 1)


def test_copies_pickles_and_renamed_masks_keep_their_gates() -> None:
    made = dampening()
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made)), made.with_meta(measured={})):
        assert gates_of(again) == gates_of(made)
        assert not again.gates["neurons"][0].flags.writeable


def rebuilt(components: dict[tuple[str, Any, int], float], like: Mask) -> Mask:
    gates_by_kind: dict[str, dict[Any, dict[int, float]]] = {"neuron": {}, "head": {}, "weight": {}}
    for (kind, key, element), gate in components.items():
        gates_by_kind[kind].setdefault(key, {})[element] = gate
    return Mask(
        gates_by_kind["neuron"],
        gates_by_kind["head"],
        {name: list(cut) for name, cut in gates_by_kind["weight"].items()},
        like.meta,
    )


@given(any_mask, any_mask)
@quick
def test_a_union_takes_the_smaller_gate_and_an_intersection_the_larger(left: Mask, right: Mask) -> None:
    a, b = gates_of(left), gates_of(right)
    union = {one: min(a.get(one, 1.0), b.get(one, 1.0)) for one in a.keys() | b.keys()}
    both = {one: max(a[one], b[one]) for one in a.keys() & b.keys()}
    difference = {one: gate for one, gate in a.items() if one not in b}
    for result, expected in ((left | right, union), (left & right, both), (left - right, difference)):
        assert gates_of(result) == expected
        # Equal sets are equal in form, whichever way they were come by.
        assert result == rebuilt(expected, result)


def test_an_overlap_is_of_components_whatever_their_gates() -> None:
    assert dampening().overlap(mixed()) == 1.0
    assert members(dampening()) == members(mixed())
    assert repr(dampening()).endswith("3 neurons, 2 heads, 4 weights; 3 of them dampened>")
