"""Gates and factors on a bare linear layer: no engine, so that many masks can be tried."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from edits.cover import minimum_cover
from service.engine.gated_layers import Batch, edit
from service.engine.low_rank import Piece, factors

INPUTS, OUTPUTS, SLOTS = 24, 16, 3


class Method:
    """The plainest linear method; ``packed`` stands for whatever else vLLM may ask one for."""

    packed = "yes"

    def apply(self, layer, x, bias=None):
        return functional.linear(x, layer.weight, bias)


class Layer(nn.Module):
    def __init__(self, seed: int, dtype=torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(OUTPUTS, INPUTS, generator=generator).to(dtype)
        self.quant_method = Method()


def edited(seed: int, tokens: int, dtype=torch.float32):
    layer, batch = Layer(seed, dtype), Batch(tokens, SLOTS, torch.device("cpu"))
    return layer, batch, edit(layer, batch, dtype, INPUTS, gated=True, weighted=True)


def inputs(seed: int, tokens: int, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(tokens, INPUTS, generator=torch.Generator().manual_seed(seed)).to(dtype)


gates_of_a_slot = st.dictionaries(st.integers(0, INPUTS - 1), st.sampled_from([0.0, 0.25, 0.5]))
masks_of_slots = st.lists(gates_of_a_slot, min_size=SLOTS, max_size=SLOTS)


@given(masks_of_slots, st.lists(st.integers(0, SLOTS), min_size=1, max_size=12), st.integers(0, 99), st.booleans())
@settings(deadline=None)
def test_each_token_is_answered_as_by_the_layer_with_its_masks_gates_on_its_columns(gates, slots, seed, half):
    dtype = torch.bfloat16 if half else torch.float32
    layer, batch, method = edited(seed, len(slots) + 4, dtype)
    for slot, of in enumerate(gates):
        method.gates[slot, list(of)] = torch.tensor(list(of.values()), dtype=dtype)
    batch.index[: len(slots)] = torch.tensor(slots)
    batch.gated = True
    x = inputs(seed + 1, len(slots), dtype)
    answered = layer.quant_method.apply(layer, x.clone())
    for slot in range(SLOTS + 1):
        weight = layer.weight.clone()
        if slot < SLOTS:
            weight[:, list(gates[slot])] *= torch.tensor(list(gates[slot].values()), dtype=dtype)
        baked = functional.linear(x, weight)  # the same shape, so the same order of summation
        for token in np.flatnonzero(np.array(slots) == slot):
            assert torch.equal(answered[token], baked[token])


@given(
    st.sets(st.integers(0, OUTPUTS * INPUTS - 1), min_size=1),
    st.lists(st.booleans(), min_size=1, max_size=9),
    st.integers(0, 99),
)
@settings(deadline=None)
def test_factors_take_off_what_the_cut_weights_add(cut, under, seed):
    layer, batch, method = edited(seed, len(under))
    indices = np.array(sorted(cut))
    rows, columns = np.divmod(indices, INPUTS)
    values = layer.weight.reshape(-1)[torch.from_numpy(indices)]
    piece = Piece(rows, columns, values, minimum_cover(indices, (OUTPUTS, INPUTS)), INPUTS, 0)
    method.factors[1] = factors([piece], OUTPUTS, torch.device("cpu"))
    tokens = torch.tensor([i for i, masked in enumerate(under) if masked], dtype=torch.long)
    batch.weighted = {1: tokens} if len(tokens) else {}
    x = inputs(seed + 1, len(under))
    answered = layer.quant_method.apply(layer, x.clone())
    zeroed = layer.weight.clone()
    zeroed.view(-1)[indices] = 0
    for token, masked in enumerate(under):
        if masked:
            torch.testing.assert_close(answered[token], functional.linear(x, zeroed)[token], atol=1e-5, rtol=1e-5)
        else:
            assert torch.equal(answered[token], functional.linear(x, layer.weight)[token])


def test_fused_matrices_keep_their_rows_apart():
    """Two matrices one above the other, as q and k in a fused layer: each takes off its own rows."""
    layer, batch, method = edited(0, 2)
    pieces = []
    for offset, cut in ((0, [3, 4, 30]), (8, [1, 50])):
        indices = np.array(cut)
        rows, columns = np.divmod(indices, INPUTS)
        values = layer.weight[rows + offset, columns]
        pieces.append(Piece(rows, columns, values, minimum_cover(indices, (8, INPUTS)), INPUTS, offset))
        layer.weight = layer.weight.clone()
    method.factors[0] = factors(pieces, OUTPUTS, torch.device("cpu"))
    batch.weighted = {0: torch.tensor([0, 1])}
    x = inputs(5, 2)
    zeroed = layer.weight.clone()
    for piece in pieces:
        zeroed[piece.rows + piece.offset, piece.columns] = 0
    torch.testing.assert_close(layer.quant_method.apply(layer, x.clone()), functional.linear(x, zeroed))


def test_without_a_masked_token_nothing_is_touched():
    layer, _, method = edited(0, 4)
    method.gates[:] = float("nan")
    x = inputs(1, 4)
    given_ = x.clone()
    assert torch.equal(layer.quant_method.apply(layer, x), functional.linear(given_, layer.weight))
    assert torch.equal(x, given_)


def test_three_dimensions_are_gated_as_two():
    layer, batch, method = edited(0, 6)
    method.gates[0, ::2] = 0
    batch.index[:] = torch.tensor([0, 1, 0, 3, 2, 0])
    batch.gated = True
    x = inputs(2, 6)
    flat = layer.quant_method.apply(layer, x.clone())
    assert torch.equal(layer.quant_method.apply(layer, x.clone().view(2, 3, INPUTS)).view(6, OUTPUTS), flat)


def test_a_compiled_layer_asks_at_each_run_which_masks_are_in_use():
    layer, batch, method = edited(0, 3)
    run = torch.compile(lambda x: layer.quant_method.apply(layer, x), fullgraph=True, backend="aot_eager")
    x = inputs(4, 3)
    assert torch.equal(run(x.clone()), functional.linear(x, layer.weight))
    method.gates[1, :12] = 0
    batch.index[:] = torch.tensor([SLOTS, 1, SLOTS])
    batch.gated = True
    masked = run(x.clone())
    half = torch.cat([torch.zeros(1, 12), x[1:2, 12:]], 1)
    assert torch.equal(masked[1:2], functional.linear(half, layer.weight))
    assert torch.equal(masked[0], functional.linear(x, layer.weight)[0])


def test_whatever_else_is_asked_the_wrapped_method_answers():
    layer, _, _ = edited(0, 1)
    assert layer.quant_method.packed == "yes"
    assert not hasattr(layer.quant_method, "nothing_of_the_kind")
