"""Where neurons and heads enter, by a matrix's name."""

import pytest

import masks
from edits.places import cuts_packed, heads_enter, is_projection, neurons_enter
from tests.service.server import MODEL


@pytest.mark.parametrize(
    ("module", "neurons", "heads"),
    [
        ("model.layers.3.mlp.down_proj", 3, None),
        ("layers.12.mlp.down_proj", 12, None),
        ("model.decoder.layers.0.fc2", 0, None),
        ("decoder.layers.7.self_attn.out_proj", None, 7),
        ("model.layers.1.self_attn.o_proj", None, 1),
        ("model.layers.1.mlp.up_proj", None, None),
        ("model.players.1.mlp.down_proj", None, None),
        ("model.layers.1.mlp.down_proj.base_layer", None, None),
        ("lm_head", None, None),
    ],
)
def test_a_module_tells_which_layers_components_enter_it(module, neurons, heads):
    assert (neurons_enter(module), heads_enter(module)) == (neurons, heads)


@pytest.mark.parametrize(
    ("parameter", "inside"),
    [
        ("model.layers.0.self_attn.q_proj.weight", True),
        ("model.layers.0.mlp.gate_proj.weight", True),
        ("model.decoder.layers.2.fc1.weight", True),
        ("model.layers.0.self_attn.q_proj.bias", False),
        ("model.layers.0.input_layernorm.weight", False),
        ("model.embed_tokens.weight", False),
        ("lm_head.weight", False),
        ("model.decoder.project_in.weight", False),
    ],
)
def test_projections_are_told_from_everything_else(parameter, inside):
    assert is_projection(parameter) is inside


def test_a_mask_cuts_packed_where_its_matrix_is_no_plain_one():
    names = list(masks.parameters(MODEL))
    packed = [name.replace("mlp.down_proj.weight", "mlp.down_proj.qweight") for name in names]
    neurons = masks.for_model(MODEL, "neurons", neurons={1: [0]})
    heads = masks.for_model(MODEL, "heads", heads={1: [0]})
    assert not cuts_packed(neurons, names)
    assert cuts_packed(neurons, packed)
    assert not cuts_packed(heads, packed)
