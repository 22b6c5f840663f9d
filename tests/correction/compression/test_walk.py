"""The walk against plain forward passes of the whole model."""

import gc
import weakref

import pytest
import torch

from correction.compression import calibrate
from correction.compression.matrices import linear_matrices
from correction.compression.walk import walk
from correction.models import load
from tests.correction.conftest import save_tiny
from tests.correction.families import save_family


class Inputs:
    """Everything that enters a matrix."""

    def __init__(self, channels, device):
        self.read_, self.channels = [], channels

    def read(self, x):
        self.read_.append(x.reshape(-1, self.channels).clone())

    def all(self):
        return torch.cat(self.read_)


def entering(loaded, ids):
    """What enters every matrix, in a pass of the whole model."""
    seen, handles = {}, []
    for place in linear_matrices(loaded):
        handles.append(
            place.module.register_forward_pre_hook(
                lambda module, inputs, name=place.name: seen.update({name: inputs[0].reshape(-1, inputs[0].shape[-1])})
            )
        )
    with torch.no_grad():
        loaded.model(input_ids=ids, use_cache=False)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "opt"])
@pytest.mark.parametrize("tokens", [16, 48, 4096])  # of 8 windows of 16: batches of 1, of 3, 3 and 2, and of all
def test_each_matrix_reads_what_it_reads_in_the_whole_model(tmp_path, texts, family, tokens):
    loaded = load(save_family(family, tmp_path), dtype="float32", device="cpu")
    calibration = calibrate(loaded, texts, windows=8, window=16)
    expected, inputs = entering(loaded, calibration.ids), {}
    walk(
        loaded,
        calibration,
        Inputs,
        lambda read: inputs.update({place.name: each.all() for place, each in read}),
        tokens=tokens,
    )
    assert inputs.keys() == expected.keys()
    for name, x in expected.items():
        torch.testing.assert_close(inputs[name], x, rtol=1e-4, atol=1e-5)


def test_a_block_reads_what_the_pruned_blocks_before_it_make(model, calibration):
    inputs = {}

    def prune(read):
        inputs.update({place.name: each.all() for place, each in read})
        for place, _ in read:
            place.module.weight[::2] = 0

    walk(model, calibration, Inputs, prune)
    after = entering(model, calibration.ids)  # all blocks are pruned now
    first = [place.name for place in linear_matrices(model, 1)][:3]
    for name in first:  # q, k, v of the second block: what they read depends on the first one alone
        torch.testing.assert_close(inputs[name], after[name], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(inputs[linear_matrices(model, 0)[6].name], after[linear_matrices(model, 0)[6].name])


def test_statistics_of_one_block_are_alive_at_a_time_and_matrices_that_read_the_same_share_them(tmp_path, texts):
    loaded = load(save_tiny(tmp_path, num_hidden_layers=6), device="cpu")
    calibration = calibrate(loaded, texts, windows=8, window=16)
    alive, alive_counts, made = weakref.WeakSet(), [], []

    class Counted(Inputs):
        def __init__(self, channels, device):
            super().__init__(channels, device)
            gc.collect()
            alive.add(self)
            made.append(1)
            alive_counts.append(len(alive))

    walk(loaded, calibration, Counted, lambda read: None, tokens=16)
    assert max(alive_counts) == 4  # of seven matrices: q k v, o, gate up, down
    assert len(made) == 4 * 6


def test_it_leaves_no_hook_behind_whatever_happens(model, calibration):
    def fail(read):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        walk(model, calibration, Inputs, fail)
    assert not any(module._forward_pre_hooks for module in model.model.modules())
    assert all(parameter.requires_grad for parameter in model.model.parameters())
