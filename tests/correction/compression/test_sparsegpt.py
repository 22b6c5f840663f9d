"""SparseGPT against the definition in float64: an inverse for every column, and least squares for what is left."""

import numpy as np
import pytest
import torch

from correction.compression.plan import Plan
from correction.compression.sparsegpt import Hessian, prune, pruned
from correction.errors import CompressionError


def problem(rows=6, columns=12, tokens=40, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(columns, columns))  # correlated inputs: else nothing is made up for
    return rng.normal(size=(rows, columns)), rng.normal(size=(tokens, columns)) @ mixing


def derived(weight, inputs, *, width, fraction=None, pattern=None, damping=0.01):
    """One column after the other: what is settled stays, and the rest is the least-squares answer to it."""
    hessian = 2 * inputs.T @ inputs / len(inputs)
    hessian = hessian + damping * np.diag(hessian).mean() * np.eye(len(hessian))
    solution, cut = weight.copy(), np.zeros(weight.shape, bool)
    columns = weight.shape[1]
    cost = [1 / np.linalg.inv(hessian[i:, i:])[0, 0] for i in range(columns)]
    n, m = map(int, pattern.split(":")) if pattern else (0, width)
    for i in range(columns):
        if i % m == 0:
            group = slice(i, min(i + m, columns))
            saliency = solution[:, group] ** 2 * cost[group]
            if pattern:
                for row, each in enumerate(saliency):
                    cut[row, i + np.argsort(each)[:n]] = True
            else:
                order = np.argsort(saliency, axis=None)[: round(fraction * saliency.size)]
                flags = np.zeros(saliency.size, bool)
                flags[order] = True
                cut[:, group] = flags.reshape(saliency.shape)
        solution[cut[:, i], i] = 0
        rest = slice(i + 1, columns)
        done = slice(0, i + 1)
        change = (solution[:, done] - weight[:, done]) @ hessian[done, rest]
        if i + 1 < columns:
            solution[:, rest] = weight[:, rest] - change @ np.linalg.inv(hessian[rest, rest])
    return solution, cut


def ours(weight, inputs, **budget):
    hessian = torch.from_numpy(2 * inputs.T @ inputs / len(inputs)).float()
    solution, cut = pruned("w", torch.from_numpy(weight).float(), hessian, **budget)
    return solution.numpy(), cut.numpy()


@pytest.mark.parametrize("width", [4, 8, 12, 128])
@pytest.mark.parametrize("budget", [{"fraction": 0.5}, {"fraction": 0.3}, {"pattern": "2:4"}, {"pattern": "1:2"}])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_what_its_definition_gives_in_float64(width, budget, seed):
    weight, inputs = problem(seed=seed)
    expected, expected_cut = derived(weight, inputs, width=width, **budget)
    solution, cut = ours(weight, inputs, width=width, **budget)
    assert (cut == expected_cut).all()
    assert (solution[cut] == 0).all()
    np.testing.assert_allclose(solution, expected, rtol=2e-3, atol=2e-4)


def test_the_first_weight_cut_is_the_surgeon_of_hassibi_and_stork():
    weight, inputs = problem(rows=1)
    hessian = 2 * inputs.T @ inputs / len(inputs)
    hessian += 0.01 * np.diag(hessian).mean() * np.eye(12)
    inverse = np.linalg.inv(hessian)
    weight[0, 0] = 1e-3  # first of all to go
    solution, cut = ours(weight, inputs, fraction=1 / 12)
    assert np.flatnonzero(cut).tolist() == [0]
    np.testing.assert_allclose(solution, weight - weight[0, 0] / inverse[0, 0] * inverse[:1], rtol=1e-3, atol=1e-5)


def test_it_leaves_less_error_than_the_same_cut_without_making_up_for_it():
    weight, inputs = problem()
    solution, cut = ours(weight, inputs, fraction=0.5)
    left, alone = (np.linalg.norm(inputs @ (each - weight).T) for each in (solution, np.where(cut, 0, weight)))
    assert left < 0.8 * alone


def test_inputs_that_are_never_there_are_cut_first_and_do_not_spoil_the_inverse():
    weight, inputs = problem()
    inputs[:, [2, 7]] = 0
    solution, cut = ours(weight, inputs, fraction=2 / 12)
    assert cut[:, [2, 7]].all() and cut.sum() == 12
    assert np.isfinite(solution).all()
    np.testing.assert_allclose(solution[~cut], weight[~cut], rtol=1e-3)


def test_the_hessian_is_twice_the_mean_product_of_inputs_in_any_batches():
    _, inputs = problem(tokens=40)
    hessian = Hessian(12, torch.device("cpu"))
    for part in torch.from_numpy(inputs).float().view(4, 10, 12).split(3):
        hessian.read(part)
    np.testing.assert_allclose(hessian.matrix().numpy(), 2 * inputs.T @ inputs / 40, rtol=1e-5, atol=1e-4)


def test_a_module_is_changed_in_place_and_its_zeros_are_told():
    weight, inputs = problem()
    module = torch.nn.Linear(12, 6, bias=False)
    module.weight.data = torch.from_numpy(weight).bfloat16()
    hessian = Hessian(12, torch.device("cpu"))
    hessian.read(torch.from_numpy(inputs))
    cut = prune("w", module, hessian, Plan("sparsegpt", pattern="2:4"))
    assert cut.size == 36 and module.weight.dtype == torch.bfloat16
    assert (module.weight.flatten()[torch.from_numpy(cut)] == 0).all()


def test_what_cannot_be_inverted_or_divided_is_refused_with_its_name():
    weight, inputs = problem()
    inputs[0, 0] = np.inf
    with pytest.raises(CompressionError, match=r"^w: the Hessian of its inputs has no inverse"):
        ours(weight, inputs, fraction=0.5)
    with pytest.raises(CompressionError, match="12 columns in parts of 128 are not divisible by the 5 of 2:5"):
        ours(*problem(), pattern="2:5")
