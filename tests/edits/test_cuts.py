"""Cuts: masks applied to checkpoint tensors as they stream by."""

import pytest
import torch

import masks
from edits.cuts import MaskNotAppliedError, cut
from tests.service.engine.conftest import BETA
from tests.service.server import MODEL

GEOMETRY = masks.describe(MODEL).geometry


def checkpoint():
    generator = torch.Generator().manual_seed(0)
    for name, info in masks.parameters(MODEL).items():
        yield name, torch.randn(info.shape, generator=generator)


def test_exactly_the_masked_columns_become_zero():
    before, after = dict(checkpoint()), dict(cut(checkpoint(), BETA))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        expected = tensor.clone()
        for layer, neurons in BETA.neurons.items():
            if name == f"model.layers.{layer}.mlp.down_proj.weight":
                expected[:, neurons.tolist()] = 0
        for layer, heads in BETA.heads.items():
            if name == f"model.layers.{layer}.self_attn.o_proj.weight":
                for head in heads.tolist():
                    expected[:, head * GEOMETRY.head_dim : (head + 1) * GEOMETRY.head_dim] = 0
        assert torch.equal(after[name], expected), name


def test_exactly_the_masked_weights_become_zero_sparse_or_dense():
    name = "model.layers.1.mlp.up_proj.weight"
    rows, columns = masks.parameters(MODEL)[name].shape
    for step in (500, 2):
        indices = list(range(0, rows * columns, step))
        mask = masks.for_model(MODEL, "w", weights={name: indices})
        before, after = dict(checkpoint())[name], dict(cut(checkpoint(), mask))[name]
        expected = before.clone()
        expected.view(-1)[indices] = 0
        assert torch.equal(after, expected)


def test_the_tensors_passed_in_are_left_alone():
    tensors = dict(checkpoint())
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    list(cut(tensors.items(), BETA))
    assert all(torch.equal(tensors[name], copies[name]) for name in tensors)


def test_a_checkpoint_without_the_masked_matrix_is_refused():
    packed = ((name.replace("down_proj.weight", "down_proj.qweight"), tensor) for name, tensor in checkpoint())
    with pytest.raises(MaskNotAppliedError, match="neurons"):
        list(cut(packed, BETA))


def test_another_shape_is_refused():
    wrong = ((name, tensor[:, :-1] if tensor.dim() == 2 else tensor) for name, tensor in checkpoint())
    with pytest.raises(MaskNotAppliedError, match="input features"):
        list(cut(wrong, BETA))
