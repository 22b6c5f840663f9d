"""B A is what cutting takes away, to the bit, in every dtype, and of no larger rank than it need be."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import masks
from edits.cover import minimum_cover
from edits.cuts import MaskNotAppliedError, cut_tensors
from edits.factors import factorised, factors
from edits.stream import tensors
from tests.correction.families import save_family
from tests.edits.conftest import FAMILIES, KINDS, mask_of
from tests.masks.samples import quick


def factors_of(mask, folder):
    return {name: (A, B) for name, A, B in factors(mask, folder)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_product_is_what_cutting_takes_away(models, family, kind):
    folder = models[family]
    mask = mask_of(folder, kind)
    given, left = dict(tensors(folder)), dict(cut_tensors(tensors(folder), mask))
    pairs = factors_of(mask, folder)
    assert pairs.keys() == {name for name in given if not torch.equal(given[name], left[name])}
    for name, (A, B) in pairs.items():
        assert torch.equal(B @ A, left[name] - given[name])
        assert A.shape[0] == B.shape[1] == smallest(given[name], left[name])


def smallest(given, left):
    """The rank of the removed elements, and one for each dampened column."""
    removed, dampened = (given != left) & (left == 0), (given != left) & (left != 0)
    indices = removed.flatten().nonzero().squeeze(1).numpy()
    return minimum_cover(indices, tuple(given.shape)).rank + int(dampened.any(0).sum())


@quick
@given(st.integers(0, 2**32), st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
def test_each_element_comes_exactly_once_in_every_dtype(seed, dtype):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 9, 2).tolist())
    W = torch.from_numpy(rng.standard_normal(shape)).to(dtype)
    M = torch.from_numpy(rng.random(shape) < rng.random())
    A, B = factorised(W, M, minimum_cover(M.flatten().nonzero().squeeze(1).numpy(), shape))
    assert A.dtype == B.dtype == dtype
    assert torch.equal(B @ A, -(W * M))


def test_neurons_and_heads_are_columns_with_their_weights_among_them(llama):
    into_mlp, into_attention = "model.layers.0.mlp.down_proj.weight", "model.layers.0.self_attn.o_proj.weight"
    mask = masks.for_model(
        llama, "m", neurons={0: [3, 9]}, heads={0: [1]}, weights={into_mlp: [3, 48 + 9, 5], into_attention: [7, 8, 40]}
    )
    ranks = {name: len(A) for name, (A, _) in factors_of(mask, llama).items()}
    assert ranks == {into_mlp: 3, into_attention: 9}


def test_cutting_more_columns_than_there_are_rows_needs_no_more_than_the_rows(llama):
    mask = masks.for_model(llama, "m", neurons={0: range(48)})
    ((_, A, _),) = factors(mask, llama)
    assert A.shape == (32, 48)


def test_bfloat16_stays_bfloat16(tmp_path):
    folder = save_family("llama", tmp_path)
    half = {name: tensor.bfloat16() for name, tensor in tensors(folder)}
    save_file(half, folder / "model.safetensors", {"format": "pt"})
    for kind in ("mixed", "dampened"):
        mask = mask_of(folder, kind)
        left = dict(cut_tensors(tensors(folder), mask))
        for name, (A, B) in factors_of(mask, folder).items():
            assert A.dtype == B.dtype == torch.bfloat16
            assert torch.equal(B.double() @ A.double(), left[name].double() - half[name].double())


def test_an_empty_mask_has_no_factors(llama):
    assert factors_of(masks.for_model(llama, "m"), llama) == {}


def test_a_mask_that_meets_no_tensor_is_not_left_out_in_silence(llama, monkeypatch):
    packed = [(name.replace("down_proj.weight", "down_proj.qweight"), tensor) for name, tensor in tensors(llama)]
    monkeypatch.setattr("edits.factors.tensors", lambda folder: iter(packed))
    with pytest.raises(MaskNotAppliedError, match="neurons"):
        factors_of(mask_of(llama, "neurons"), llama)
