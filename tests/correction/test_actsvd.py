"""ActSVD against numpy's SVD of W X, sample by sample in float64."""

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from correction.actsvd import changed, changes, linears, moments
from correction.attribution.criteria.output_seeds import Sample
from correction.errors import SelectionError
from edits import peft
from tests.correction.attribution.criteria.test_criteria import ANSWERS, SEQUENCES

SAMPLES = [Sample(tuple(ids), tuple(answer)) for ids, answer in zip(SEQUENCES, ANSWERS, strict=True)]
GENERAL = [Sample((1,), (14, 6, 25, 9, 30)), Sample((1, 40), (11, 12, 33, 7))]


def inputs(loaded, samples, name):
    """What a module reads where the responses are said: float64 (inputs, tokens)."""
    activations = []
    handle = linears(loaded)[name].register_forward_pre_hook(
        lambda module, given: activations.append(given[0][0].detach())
    )
    parts = []
    for sample in samples:
        with torch.no_grad():
            loaded.model(torch.tensor([sample.given + sample.response[:-1]]))
        parts.append(activations[-1][len(sample.given) - 1 :])
    handle.remove()
    return torch.cat(parts).double().numpy().T


def projection(W, X, rank):
    U = np.linalg.svd(W @ X, full_matrices=False)[0][:, :rank]
    return U @ U.T


@pytest.mark.parametrize("tokens", [1, 2048])
def test_the_change_is_that_of_the_singular_vectors_of_what_is_written(tiny, tokens):
    behaviour = moments(tiny, SAMPLES, tokens=tokens)
    general = moments(tiny, GENERAL, tokens=tokens)
    assert len(behaviour) == 14
    alone = changes(tiny, behaviour, None, rank=2)
    beside = changes(tiny, behaviour, general, rank=2, kept=3)
    for name in behaviour:
        W = linears(tiny)[name].weight.detach().double().numpy()
        X, Y = inputs(tiny, SAMPLES, name), inputs(tiny, GENERAL, name)
        np.testing.assert_allclose(behaviour[name].numpy(), X @ X.T, rtol=1e-4, atol=1e-4)
        b, g = projection(W, X, 2), projection(W, Y, 3)
        for change, expected in ((alone[name], -b @ W), (beside[name], -(np.eye(len(W)) - g) @ b @ W)):
            assert change.A.shape[0] == change.B.shape[1] == 2
            np.testing.assert_allclose((change.B @ change.A).numpy(), expected, atol=2e-3 * np.abs(W).max())


def test_no_other_matrix_of_the_rank_writes_nearer(tiny):
    name = "model.layers.0.mlp.down_proj"
    change = changes(tiny, moments(tiny, SAMPLES, ["down_proj"]), None, rank=3)[name]
    W, X = linears(tiny)[name].weight.detach().double().numpy(), inputs(tiny, SAMPLES, name)
    kept = -(change.B @ change.A).double().numpy()
    tail = np.linalg.svd(W @ X)[1][3:]
    assert np.linalg.norm(W @ X - kept @ X) == pytest.approx(np.sqrt((tail**2).sum()), rel=1e-3)


def test_the_model_is_changed_for_a_while_and_an_adapter_does_the_same(tiny, tmp_path):
    module_changes = changes(tiny, moments(tiny, SAMPLES), moments(tiny, GENERAL), rank=2, kept=1)
    ids = torch.tensor([SEQUENCES[0]])
    with torch.no_grad():
        before = tiny.model(ids).logits
        with changed(tiny, module_changes):
            inside = tiny.model(ids).logits
        assert torch.equal(tiny.model(ids).logits, before)
        ranks = peft.write_pairs(
            {name: (each.A, each.B) for name, each in module_changes.items()}, "tiny", tmp_path / "a"
        )
        assert set(ranks.values()) == {2}
        served = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny.path), tmp_path / "a")
        torch.testing.assert_close(served.eval()(ids).logits, inside, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(inside, before, atol=1e-2)


def test_ranks_that_are_not_there_are_refused(tiny):
    behaviour = moments(tiny, SAMPLES, ["o_proj"])
    with pytest.raises(SelectionError, match="rank 33"):
        changes(tiny, behaviour, None, rank=33)
    with pytest.raises(SelectionError, match="no general moments"):
        changes(tiny, behaviour, None, rank=1, kept=1)
