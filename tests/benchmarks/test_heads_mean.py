import numpy as np
import pytest
import torch

from benchmarks.heads_mean import compared, means, quartiles, replaced, summary
from benchmarks.reading import Reading

SAMPLES = [[1, 7, 8, 9, 20], [10, 30], [12, 13, 14, 15, 16, 17, 18]]


def entering(loaded, layer, samples):
    """What enters `o_proj`, of all tokens, sample by sample."""
    seen = []
    hook = loaded.blocks[layer].o_proj.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0][0]))
    with torch.no_grad():
        for sample in samples:
            loaded.model(input_ids=torch.tensor([sample]))
    hook.remove()
    return torch.cat(seen)


def test_means_are_over_tokens_and_not_over_padding(tiny):
    layer_means = means(tiny, SAMPLES)
    for layer in (0, 1):
        assert torch.allclose(layer_means[layer], entering(tiny, layer, SAMPLES).mean(0), atol=1e-5)


def test_one_head_is_replaced_and_no_other(tiny):
    before = entering(tiny, 1, SAMPLES)
    weight = tiny.blocks[1].o_proj.weight
    outputs = []
    with replaced(tiny, 1, 2, torch.full((8,), 0.5)), torch.no_grad():
        hook = tiny.blocks[1].o_proj.register_forward_hook(lambda m, inputs, output: outputs.append(output[0]))
        for sample in SAMPLES:
            tiny.model(input_ids=torch.tensor([sample]))
        hook.remove()
    before[:, 16:24] = 0.5
    assert torch.allclose(torch.cat(outputs), before @ weight.T, atol=1e-5)
    assert not tiny.blocks[1].o_proj._forward_pre_hooks


def test_a_mean_of_zero_costs_what_zero_costs(tiny):
    row = compared(tiny, Reading(tiny, SAMPLES), 0, 1, torch.zeros(8))
    assert row["kl"]["zero"] == row["kl"]["mean"] > 0
    assert row["ratio"] == 1


def test_summary_by_hand():
    rows = [{"kl": {"zero": zero, "mean": mean}} for zero, mean in ((1.0, 0.5), (2.0, 2.0), (3.0, 4.5), (4.0, 1.0))]
    figures = summary(rows)
    assert figures["ratio"] == quartiles(np.array([0.5, 1.0, 1.5, 0.25]))
    assert figures["ratio_cheap"][1] == 0.75
    assert figures["ratio_dear"][1] == 0.875
    assert figures["ratio_of_sums"] == pytest.approx(0.8)
    assert figures["better"] == 2
