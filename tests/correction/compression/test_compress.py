"""What is cut, against the formulas written out."""

import numpy as np
import pytest
import torch

from correction.compression import METHODS, Plan, compress
from correction.compression.matrices import linear_matrices
from correction.models import load
from tests.correction.compression.test_walk import entering

NAMES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def weights(loaded):
    return {
        name.removesuffix(".weight"): parameter.detach().double().numpy()
        for name, parameter in loaded.model.named_parameters()
        if name.split(".")[-2] in NAMES
    }


def norms(loaded, ids):
    return {
        name.removeprefix("weights.").removesuffix(".weight"): x.double().square().sum(0).sqrt().numpy()
        for name, x in entering(loaded, ids).items()
    }


def half_of_each_row(score):
    """Flat indices of the smaller half of each row, of equal ones the first."""
    order = np.argsort(score, axis=1, kind="stable")[:, : score.shape[1] // 2]
    return np.sort((np.arange(len(score))[:, None] * score.shape[1] + order).reshape(-1))


def lowest(score, count):
    return np.sort(np.argsort(score, axis=None, kind="stable")[:count])


def cut_of(compressed):
    return {name.removesuffix(".weight"): indices for name, indices in compressed.cut.items()}


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, indices in expected.items():
        np.testing.assert_array_equal(found[name], indices, err_msg=name)


def test_all_seven_linear_matrices_of_each_block_and_nothing_else(model, folder, calibration):
    before = load(folder, device="cpu")
    compressed = compress(model, calibration, Plan("magnitude", 0.5))
    assert {name.split(".")[-2] for name in compressed.cut} == set(NAMES) and len(compressed.cut) == 14
    parameters = dict(model.model.named_parameters())
    for name, parameter in before.model.named_parameters():
        if name not in compressed.cut:  # embeddings, head, norms
            assert torch.equal(parameters[name], parameter), name
        else:
            zeroed = torch.zeros(parameter.numel(), dtype=torch.bool)
            zeroed[torch.from_numpy(compressed.cut[name])] = True
            expected = parameter.detach().flatten().masked_fill(zeroed, 0).view_as(parameter)
            assert torch.equal(parameters[name], expected), name
    assert compressed.count == compressed.total // 2


def test_wanda_at_once_is_its_formula(model, calibration):
    w, x = weights(model), norms(model, calibration.ids)
    expected = {name: half_of_each_row(np.abs(each) * x[name]) for name, each in w.items()}
    same(cut_of(compress(model, calibration, Plan("wanda", 0.5, sequential=False))), expected)


def test_wanda_block_by_block_is_its_formula_on_pruned_inputs(model, calibration):
    w, expected = weights(model), {}
    for layer in (0, 1):
        x = norms(model, calibration.ids)
        for place in linear_matrices(model, layer):
            name = place.name.removeprefix("weights.").removesuffix(".weight")
            expected[name] = half_of_each_row(np.abs(w[name]) * x[name])
        with torch.no_grad():
            for place in linear_matrices(model, layer):
                name = place.name.removeprefix("weights.").removesuffix(".weight")
                place.module.weight.view(-1)[torch.from_numpy(expected[name])] = 0
    fresh = load(model.path, device="cpu")
    cut = cut_of(compress(fresh, calibration, Plan("wanda", 0.5)))
    same(cut, expected)
    at_once = cut_of(compress(load(model.path, device="cpu"), calibration, Plan("wanda", 0.5, sequential=False)))
    later, first = "model.layers.1.mlp.down_proj", "model.layers.0.mlp.down_proj"
    assert (cut[first] == at_once[first]).all() and (cut[later] != at_once[later]).any()


def test_wanda_by_pattern_cuts_two_of_every_four(model, calibration):
    w, x = weights(model), norms(model, calibration.ids)
    cut = cut_of(compress(model, calibration, Plan("wanda", pattern="2:4", sequential=False)))
    for name, each in w.items():
        groups = (np.abs(each) * x[name]).reshape(-1, 4)
        expected = np.sort((np.arange(len(groups))[:, None] * 4 + np.argsort(groups, axis=1)[:, :2]).reshape(-1))
        np.testing.assert_array_equal(cut[name], expected)


def test_ria_is_its_formula(model, calibration):
    w, x = weights(model), norms(model, calibration.ids)
    cut = cut_of(compress(model, calibration, Plan("ria", 0.5, sequential=False)))
    for name, each in w.items():
        size = np.abs(each)
        score = (size / size.sum(0) + size / size.sum(1, keepdims=True)) * x[name] ** 0.5
        np.testing.assert_array_equal(cut[name], lowest(score, size.size // 2))


def test_magnitude_and_the_scopes(folder, calibration):
    w = weights(load(folder, device="cpu"))

    def found(scope):
        return cut_of(compress(load(folder, device="cpu"), calibration, Plan("magnitude", 0.5, scope)))

    same(found(None), {name: lowest(np.abs(each), each.size // 2) for name, each in w.items()})
    same(found("matrix"), found(None))
    same(found("row"), {name: half_of_each_row(np.abs(each)) for name, each in w.items()})
    everything = np.concatenate([np.abs(each).reshape(-1) for each in w.values()])
    limit = np.sort(everything)[everything.size // 2]
    same(found("global"), {name: np.flatnonzero(np.abs(each) < limit) for name, each in w.items()})


@pytest.mark.parametrize("method", ["lrp", "gradient"])
@pytest.mark.parametrize("sign", ["absolute", "signed"])
def test_lrp_and_gradient_rank_by_magnitude(model, calibration, method, sign):
    from correction.compression import methods

    scores = methods.whole_model_scores(model, calibration, Plan(method, 0.5, sign=sign)).scores
    assert all((score >= 0).all() for score in scores.values())
    expected = {
        name.removeprefix("weights.").removesuffix(".weight"): half_of_each_row(score.numpy())
        for name, score in scores.items()
    }
    same(cut_of(compress(model, calibration, Plan(method, 0.5, sign=sign))), expected)


@pytest.mark.parametrize("output", ["last", "next"])
@pytest.mark.parametrize("sign", ["absolute", "signed"])
def test_the_gradient_of_a_weight_is_that_of_autograd(model, calibration, sign, output):
    """Of the largest logit at the last token, or the mean over tokens; |mean over windows|, or mean of |…|."""
    from correction.compression import methods

    scores = methods.whole_model_scores(model, calibration, Plan("gradient", 0.5, sign=sign, output=output)).scores
    of_windows = {}
    for ids in calibration.ids:
        best = model.model(input_ids=ids[None], use_cache=False).logits.amax(-1)[0]
        model.model.zero_grad()
        (best[-1] if output == "last" else best.mean()).backward()
        for name, parameter in model.model.named_parameters():
            of_windows.setdefault(name, []).append((parameter * parameter.grad).detach())
    for name, each in of_windows.items():
        if f"weights.{name}" in scores:
            stacked = torch.stack(each)
            expected = stacked.abs().mean(0) if sign == "absolute" else stacked.mean(0).abs()
            torch.testing.assert_close(scores[f"weights.{name}"], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("budget", [{"fraction": 0.5}, {"pattern": "2:4"}])
def test_every_method_cuts_exactly_half_and_twice_the_same(folder, calibration, method, budget):
    runs = [compress(load(folder, device="cpu"), calibration, Plan(method, **budget)) for _ in range(2)]
    assert runs[0].count == runs[0].total // 2
    same(cut_of(runs[0]), cut_of(runs[1]))
    for name, parameter in runs[0].changed.items():
        zeros = np.flatnonzero(parameter.detach().numpy().reshape(-1) == 0)
        np.testing.assert_array_equal(zeros, runs[0].cut[name])
        if "pattern" in budget:
            assert (np.bincount(runs[0].cut[name] // 4) == 2).all()


def test_sparsegpt_reads_pruned_inputs_and_changes_what_stays(folder, calibration):
    from correction.compression.sparsegpt import pruned

    before, after = load(folder, device="cpu"), load(folder, device="cpu")
    compress(after, calibration, Plan("sparsegpt", 0.5))
    w = weights(before)
    for layer in (0, 1):
        # q, k and v of a layer read what the layers before it, compressed, make of the windows
        for place in linear_matrices(after, layer)[:3]:
            name = place.name.removeprefix("weights.").removesuffix(".weight")
            x = entering(after, calibration.ids)[place.name]
            hessian = 2 * x.mT @ x / len(x)
            expected, _ = pruned(name, torch.from_numpy(w[name]).float(), hessian, fraction=0.5)
            torch.testing.assert_close(place.module.weight.detach(), expected, rtol=1e-2, atol=1e-3)
            assert not torch.allclose(expected[expected != 0], torch.from_numpy(w[name]).float()[expected != 0])
