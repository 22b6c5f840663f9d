"""Cuts: masks applied to checkpoint tensors as they stream by."""

import pytest
import torch

import masks
from edits.cuts import MaskNotAppliedError, cut_tensors
from edits.errors import NotRepresentableError
from tests.service.engine.random_masks import BETA
from tests.service.server import MODEL

GEOMETRY = masks.describe(MODEL).geometry


def checkpoint():
    generator = torch.Generator().manual_seed(0)
    for name, info in masks.parameters(MODEL).items():
        yield name, torch.randn(info.shape, generator=generator)


def test_exactly_the_masked_columns_are_multiplied_by_their_gates():
    before, after = dict(checkpoint()), dict(cut_tensors(checkpoint(), BETA))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        expected = tensor.clone()
        for layer, neurons in BETA.neurons.items():
            if name == f"model.layers.{layer}.mlp.down_proj.weight":
                expected[:, neurons.tolist()] *= torch.tensor(BETA.gate_values("neurons", layer))
        for layer, heads in BETA.heads.items():
            if name == f"model.layers.{layer}.self_attn.o_proj.weight":
                for head, gate in zip(heads.tolist(), BETA.gate_values("heads", layer), strict=True):
                    expected[:, head * GEOMETRY.head_dim : (head + 1) * GEOMETRY.head_dim] *= float(gate)
        assert torch.equal(after[name], expected), name


def test_exactly_the_masked_weights_become_zero_sparse_or_dense():
    name = "model.layers.1.mlp.up_proj.weight"
    rows, columns = masks.parameters(MODEL)[name].shape
    for step in (500, 2):
        indices = list(range(0, rows * columns, step))
        mask = masks.for_model(MODEL, "w", weights={name: indices})
        before, after = dict(checkpoint())[name], dict(cut_tensors(checkpoint(), mask))[name]
        expected = before.clone()
        expected.view(-1)[indices] = 0
        assert torch.equal(after, expected)


def test_the_tensors_passed_in_are_left_alone():
    tensors = dict(checkpoint())
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    list(cut_tensors(tensors.items(), BETA))
    assert all(torch.equal(tensors[name], copies[name]) for name in tensors)


def test_a_checkpoint_without_the_masked_matrix_is_refused():
    packed = ((name.replace("down_proj.weight", "down_proj.qweight"), tensor) for name, tensor in checkpoint())
    with pytest.raises(MaskNotAppliedError, match="neurons"):
        list(cut_tensors(packed, BETA))


def test_another_shape_is_refused():
    wrong = ((name, tensor[:, :-1] if tensor.dim() == 2 else tensor) for name, tensor in checkpoint())
    with pytest.raises(MaskNotAppliedError, match="input features"):
        list(cut_tensors(wrong, BETA))


DOWN, OUT = "model.layers.1.mlp.down_proj.weight", "model.layers.0.self_attn.o_proj.weight"
GRADED = masks.for_model(
    MODEL, "graded", neurons={1: {3: 0.25, 7: 0, 9: 0.5}}, heads={0: {0: 0.5}}, weights={DOWN: ([2, 2], [3, 5])}
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dampened_columns_are_multiplied_by_their_gates(dtype):
    before = {name: tensor.to(dtype) for name, tensor in checkpoint()}
    before[DOWN][:, 3] = torch.linspace(-4, 4, len(before[DOWN])).to(dtype)
    after = dict(cut_tensors(before.items(), GRADED))
    expected = {DOWN: before[DOWN].clone(), OUT: before[OUT].clone()}
    for column, gate in ((3, 0.25), (7, 0), (9, 0.5)):
        expected[DOWN][:, column] *= gate
    expected[DOWN][2, [3, 5]] = 0
    expected[OUT][:, : GEOMETRY.head_dim] *= 0.5
    for name in before:
        assert after[name].dtype == dtype
        assert torch.equal(after[name], expected.get(name, before[name])), name


@pytest.mark.parametrize(
    ("dtype", "smallest"),
    [
        (torch.float16, 2.0**-24),
        (torch.bfloat16, 2.0**-133),
        (torch.float32, 2.0**-149),
        (torch.float8_e4m3fn, 2.0**-9),
    ],
)
def test_a_product_that_the_dtype_cannot_hold_is_refused(dtype, smallest):
    """The smallest subnormal number of a dtype has no quarter."""
    held = {name: torch.ones(info.shape).to(dtype) for name, info in masks.parameters(MODEL).items()}
    assert (
        dict(cut_tensors(held.items(), GRADED))[DOWN].float()[0, [3, 7, 9, 10]] == torch.tensor([0.25, 0, 0.5, 1])
    ).all()
    column = torch.ones(len(held[DOWN]), dtype=torch.float64)
    column[5] = smallest
    held[DOWN][:, 3] = column.to(dtype)
    with pytest.raises(NotRepresentableError, match=f"{DOWN}: a dampened weight is too small"):
        list(cut_tensors(held.items(), GRADED))


def test_integers_are_not_dampened_but_may_be_cut():
    held = {name: torch.ones(info.shape, dtype=torch.int8) for name, info in masks.parameters(MODEL).items()}
    with pytest.raises(NotRepresentableError, match=r"o_proj\.weight holds torch\.int8"):
        list(cut_tensors(held.items(), GRADED))
    assert dict(cut_tensors(held.items(), masks.for_model(MODEL, "m", neurons={1: [3]})))[DOWN].sum(0)[3] == 0
