import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmarks import baselines
from benchmarks.baselines import aura, aura_factors, auroc, mean_shifts, scaled, shifted, system_prompt

BAD = [[6, 7, 8, 9], [10, 20, 21], [19, 11, 12, 13, 14, 15], [17, 16]]  # no token in common, so no ties
GOOD = [[29, 30, 31, 32], [39, 33, 34], [40, 35, 36, 37, 38]]


@torch.no_grad()
def logits(loaded, ids):
    return loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits


def test_auroc_counts_pairs_in_order_and_ties_half():
    # Bad 3 and 2, good 1 and 2: three pairs in order and a tie. The second column is the other way about.
    scores = np.array([[3.0, 1.0, 5.0], [2.0, 2.0, 5.0], [1.0, 3.0, 5.0], [2.0, 2.0, 5.0]])
    assert auroc(scores, np.array([True, True, False, False])).tolist() == [0.875, 0.125, 0.5]
    with pytest.raises(ValueError, match="0 bad and 2 good"):
        auroc(scores[:2], np.array([False, False]))


def highest(loaded, module, sample, into):
    """The highest value of each unit over the tokens of one sample, alone."""
    seen = []
    hook = module.register_forward_hook(lambda m, inputs, output: seen.append(inputs[0] if into else output))
    logits(loaded, sample)
    hook.remove()
    return seen[0][0].amax(0).numpy()


@pytest.mark.parametrize("place", ["linears", "neurons"])
def test_factors_of_aura_against_another_library(tiny, place):
    factors = aura_factors(tiny, BAD, GOOD, place)
    assert len(factors) == (6 if place == "linears" else 2)
    module = tiny.blocks[1].down_proj
    table = np.array([highest(tiny, module, sample, place == "neurons") for sample in [*BAD, *GOOD]])
    areas = [roc_auc_score([1] * len(BAD) + [0] * len(GOOD), column) for column in table.T]
    expected = [1 - 2 * (area - 0.5) if area > 0.5 else 1.0 for area in areas]
    assert factors["model.layers.1.down"].numpy() == pytest.approx(np.array(expected), abs=1e-6)
    assert min(expected) < 0.5  # the samples do tell units apart
    assert max(expected) == 1


def test_scaling_neurons_is_scaling_the_columns_of_down_proj(tiny):
    factors = aura_factors(tiny, BAD, GOOD, "neurons")
    plain = logits(tiny, BAD[0])
    with aura(tiny, BAD, GOOD, "neurons"):
        inside = logits(tiny, BAD[0])
    assert torch.equal(logits(tiny, BAD[0]), plain)
    for block in tiny.blocks:
        block.down_proj.weight.data *= factors[f"{block.prefix}.down"]
    assert torch.allclose(logits(tiny, BAD[0]), inside, atol=1e-5)
    assert not torch.allclose(plain, inside, atol=1e-2)


def test_scaling_linears_is_scaling_the_rows_of_all_three(tiny):
    factors = aura_factors(tiny, BAD, GOOD)
    with scaled(tiny, factors):
        inside = logits(tiny, BAD[0])
    for block in tiny.blocks:
        for name, module in (("gate", block.gate), ("up", block.up), ("down", block.down_proj)):
            module.weight.data *= factors[f"{block.prefix}.{name}"][:, None]
    assert torch.allclose(logits(tiny, BAD[0]), inside, atol=1e-5)


def means(loaded, samples):
    """Mean over samples of the mean over tokens of what enters each MLP, sample by sample."""
    seen = {block.prefix: [] for block in loaded.blocks}
    hooks = [
        block.gate.register_forward_pre_hook(lambda m, inputs, prefix=block.prefix: seen[prefix].append(inputs[0][0]))
        for block in loaded.blocks
    ]
    for sample in samples:
        logits(loaded, sample)
    for hook in hooks:
        hook.remove()
    return [torch.stack([each.mean(0) for each in activations]).mean(0) for activations in seen.values()]


def test_the_shift_moves_the_mean_of_the_bad_to_the_good_at_every_layer(tiny):
    good, bad = means(tiny, GOOD), means(tiny, BAD)
    with shifted(tiny, mean_shifts(tiny, BAD, GOOD)):
        moved = means(tiny, BAD)
    for target, before, after in zip(good, bad, moved, strict=True):
        assert torch.allclose(after, target, atol=1e-5)
        assert not torch.allclose(before, target, atol=1e-2)


def test_half_the_strength_goes_half_the_way_in_the_first_layer(tiny):
    good, bad = means(tiny, GOOD), means(tiny, BAD)
    assert torch.allclose(mean_shifts(tiny, BAD, GOOD)["model.layers.0.norm"], good[0] - bad[0], atol=1e-5)
    plain = logits(tiny, BAD[0])
    with shifted(tiny, mean_shifts(tiny, BAD, GOOD), 0.5):
        assert torch.allclose(means(tiny, BAD)[0], (good[0] + bad[0]) / 2, atol=1e-5)
    with shifted(tiny, mean_shifts(tiny, BAD, GOOD), 0.0):
        assert torch.equal(logits(tiny, BAD[0]), plain)
    assert torch.equal(logits(tiny, BAD[0]), plain)


def test_an_instruction_comes_before_the_sample(tiny):
    tiny.tokenizer.chat_template = "<s>{{ messages[0]['content'] }}<answer>"
    the, a, dog = (tiny.tokenizer.convert_tokens_to_ids(word) for word in ("the", "a", "dog"))
    answer = tiny.tokenizer.convert_tokens_to_ids("<answer>")
    tiny.tokenizer.chat_template = "{{ messages[0]['content'] }} <answer>"
    assert system_prompt(tiny, "the dog", [[a], [1, dog]]) == [[the, dog, answer, a], [the, dog, answer, dog]]
    assert system_prompt(tiny, "the dog", [[a]], raw=True) == [[the, dog, a]]


def test_an_unknown_place_is_named(tiny):
    with pytest.raises(ValueError, match="no place 'heads'"):
        baselines.aura_factors(tiny, BAD, GOOD, "heads")
