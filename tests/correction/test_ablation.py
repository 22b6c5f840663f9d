import copy

import numpy as np
import pytest
import torch

import masks
from correction.ablation import ablated
from correction.models import load
from tests.correction.conftest import save_tiny

IDS = torch.tensor([[1, 8, 17, 30, 9, 22], [1, 14, 6, 25, 11, 3]])


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def test_cut_neurons_equal_zero_columns_of_down_proj(tiny):
    mask = masks.for_model(tiny.path, "m", neurons={0: [0, 47, 5], 1: [13]})
    edited = copy.deepcopy(tiny.model)
    for layer, cut in mask.neurons.items():
        edited.model.layers[layer].mlp.down_proj.weight.data[:, torch.tensor(cut)] = 0
    with ablated(tiny, mask):
        torch.testing.assert_close(logits(tiny.model), logits(edited), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(logits(tiny.model), logits(edited))


def test_cut_heads_equal_zero_columns_of_o_proj(tiny):
    mask = masks.for_model(tiny.path, "m", heads={0: [3], 1: [0, 2]})
    edited = copy.deepcopy(tiny.model)
    for layer, cut in mask.heads.items():
        for head in cut.tolist():
            edited.model.layers[layer].self_attn.o_proj.weight.data[:, head * 8 : head * 8 + 8] = 0
    with ablated(tiny, mask):
        torch.testing.assert_close(logits(tiny.model), logits(edited), rtol=1e-5, atol=1e-5)


def test_dampened_components_equal_scaled_columns(tiny):
    mask = masks.for_model(tiny.path, "m", neurons={0: {0: 0.25, 47: 0, 5: 0.5}, 1: [13]}, heads={1: {0: 0.5, 2: 0}})
    edited = copy.deepcopy(tiny.model)
    scaled = {(0, 0): 0.25, (0, 47): 0, (0, 5): 0.5, (1, 13): 0}
    for (layer, column), gate in scaled.items():
        edited.model.layers[layer].mlp.down_proj.weight.data[:, column] *= gate
    for head, gate in ((0, 0.5), (2, 0)):
        edited.model.layers[1].self_attn.o_proj.weight.data[:, head * 8 : head * 8 + 8] *= gate
    with ablated(tiny, mask):
        torch.testing.assert_close(logits(tiny.model), logits(edited), rtol=1e-5, atol=1e-5)
    cut = masks.for_model(tiny.path, "m", neurons={0: [0, 47, 5], 1: [13]}, heads={1: [0, 2]})
    with ablated(tiny, cut):
        assert not torch.allclose(logits(tiny.model), logits(edited))


def test_cut_weights_equal_weights_set_to_zero(tiny):
    few, many = "model.layers.0.mlp.up_proj.weight", "model.layers.1.self_attn.q_proj.weight"
    rng = np.random.default_rng(0)
    cut = {few: rng.choice(48 * 32, 7, replace=False), many: rng.choice(32 * 32, 500, replace=False)}
    mask = masks.for_model(tiny.path, "m", weights=cut)
    edited = copy.deepcopy(tiny.model)
    for name, flat in cut.items():
        parameter = edited.get_parameter(name)
        parameter.data[flat // parameter.shape[1], flat % parameter.shape[1]] = 0
    with ablated(tiny, mask):
        assert torch.equal(logits(tiny.model), logits(edited))


def test_an_empty_mask_changes_nothing(tiny):
    before = logits(tiny.model)
    with ablated(tiny, masks.for_model(tiny.path, "m")):
        assert torch.equal(logits(tiny.model), before)


def test_a_mask_for_another_model_is_refused_unless_allowed(tiny, tmp_path):
    other = load(save_tiny(tmp_path / "other", seed=9), device="cpu")
    mask = masks.for_model(other.path, "m", neurons={0: [1]})
    with pytest.raises(masks.FingerprintMismatch), ablated(tiny, mask):
        pass
    with ablated(tiny, mask, allow_other_base=True):
        pass
    wider = load(save_tiny(tmp_path / "wider", intermediate_size=64), device="cpu")
    mask = masks.for_model(wider.path, "m", neurons={0: [60]})
    with pytest.raises(masks.GeometryMismatch), ablated(tiny, mask, allow_other_base=True):
        pass
