from itertools import accumulate

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import AutoConfig, AutoModelForCausalLM

import masks
from correction.ablation import ablated
from correction.data.generation import end_tokens, generate, sample_tokens, uniform_numbers
from correction.errors import EvaluationError
from correction.models import load
from masks import families
from tests.correction.conftest import WORDS, tiny_tokenizer

SEQUENCES = [[1, 8, 17, 30, 9, 22], [1, 14], [1, 40, 11, 12, 33, 7, 19, 28, 35], [5]]
SAMPLED = {"max_new_tokens": 12, "temperature": 0.8, "seed": 3}

DECODER = {
    "vocab_size": len(WORDS) + 6,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA_LIKE = {**DECODER, "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.3}
SLIDING = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
FAMILIES = {
    "opt": {**DECODER, "ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.3},
    "mistral": {**LLAMA_LIKE, "sliding_window": 4},
    "qwen2": {**{key: value for key, value in LLAMA_LIKE.items() if key != "head_dim"}, **SLIDING},
    "qwen3": {**LLAMA_LIKE, **SLIDING},
}


def slow(model, ids, steps, ends):
    """One token at a time, from scratch every time."""
    answer = []
    while len(answer) < steps:
        with torch.no_grad():
            token = int(model(torch.tensor([ids + answer]), use_cache=False).logits[0, -1].argmax())
        if token in ends:
            break
        answer.append(token)
    return answer


def slow_draw(model, ids, steps, ends, temperature, uniform):
    """The same with a token drawn by walking along the cumulative probabilities."""
    answer = []
    for number in uniform[:steps]:
        with torch.no_grad():
            logits = model(torch.tensor([ids + answer]), use_cache=False).logits[0, -1].double()
        totals = enumerate(accumulate((logits / temperature).softmax(-1).tolist()))
        token = next(token for token, total in totals if total > number)
        if token in ends:
            break
        answer.append(token)
    return answer


@pytest.mark.parametrize("tokens", [1, 4096])
def test_responses_are_those_of_reading_everything_again(tiny, tokens):
    ends = end_tokens(tiny)
    expected = [slow(tiny.model, ids, 12, ends) for ids in SEQUENCES]
    assert generate(tiny, SEQUENCES, max_new_tokens=12, tokens=tokens) == expected


def test_the_end_token_ends_a_response_and_is_no_part_of_it(tiny):
    whole = generate(tiny, SEQUENCES[:1], max_new_tokens=8)[0]
    tiny.model.generation_config.eos_token_id = [2, whole[3]]
    assert end_tokens(tiny) == {2, whole[3]}
    assert generate(tiny, SEQUENCES[:1], max_new_tokens=8)[0] == whole[: whole.index(whole[3])]
    tiny.model.generation_config.eos_token_id = whole[0]
    assert generate(tiny, SEQUENCES[:1], max_new_tokens=8) == [[]]


def test_progress_is_told(tiny):
    calls = []
    generate(tiny, SEQUENCES, max_new_tokens=2, tokens=1, progress=lambda *call: calls.append(call))
    assert calls == [("responses", done, 4) for done in (1, 2, 3, 4)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_as_transformers_does_one_by_one(tmp_path, family):
    if family not in families.FAMILIES:
        pytest.skip(f"correction.models has no adapter for {family}")
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **FAMILIES[family])).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    loaded = load(tmp_path, device="cpu")
    expected = []
    for ids in SEQUENCES:
        given = torch.tensor([ids])
        whole = loaded.model.generate(
            given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=20, pad_token_id=0
        )
        answer = whole[0, len(ids) :].tolist()
        expected.append(answer[: answer.index(2)] if 2 in answer else answer)
    assert len({tuple(answer) for answer in expected}) > 1
    assert generate(loaded, SEQUENCES, max_new_tokens=20) == expected


def test_sampled_responses_are_those_of_walking_along_the_probabilities(tiny):
    ends = end_tokens(tiny)
    expected = [
        slow_draw(tiny.model, ids, 12, ends, 0.8, uniform_numbers(3, place, sample, 12))
        for place, ids in enumerate(SEQUENCES)
        for sample in range(3)
    ]
    assert generate(tiny, SEQUENCES, samples=3, **SAMPLED) == expected
    assert len({tuple(answer) for answer in expected}) == 12


def test_draws_depend_on_nothing_but_seed_prompt_and_sample(tiny):
    whole = generate(tiny, SEQUENCES, samples=3, **SAMPLED)
    assert generate(tiny, SEQUENCES, samples=3, tokens=1, **SAMPLED) == whole
    assert generate(tiny, SEQUENCES[:2], samples=3, **SAMPLED) == whole[:6]
    assert generate(tiny, SEQUENCES, samples=1, **SAMPLED) == whole[::3]
    shorter = generate(tiny, SEQUENCES, samples=3, **{**SAMPLED, "max_new_tokens": 5})
    assert shorter == [response[:5] for response in whole]
    assert generate(tiny, SEQUENCES, samples=3, **{**SAMPLED, "seed": 4}) != whole


def test_a_mask_that_changes_nothing_changes_no_draw(tiny_folder):
    """Common random numbers: responses part only where the model does."""
    tiny = load(tiny_folder, device="cpu")
    with torch.no_grad():
        tiny.blocks[1].down_proj.weight[:, 7] = 0
    mask = masks.for_model(tiny.path, "m", neurons={1: [7]})
    whole = generate(tiny, SEQUENCES, samples=2, **SAMPLED)
    with ablated(tiny, mask):
        assert generate(tiny, SEQUENCES, samples=2, **SAMPLED) == whole


def test_uniforms_are_uniform_and_their_streams_apart():
    streams = np.stack([uniform_numbers(seed, p, s, 50) for seed in (0, 1) for p in range(10) for s in range(10)])
    assert len(np.unique(streams)) == streams.size
    assert stats.kstest(streams.ravel(), "uniform").pvalue > 0.01
    assert abs(np.corrcoef(streams[:100].ravel(), streams[100:].ravel())[0, 1]) < 0.05
    assert uniform_numbers(0, 3, 4, 9).tolist() == uniform_numbers(0, 3, 4, 50)[:9].tolist()


def test_drawn_tokens_have_the_softmax_probabilities():
    logits = torch.tensor([0.0, 2.0, -1.0, 1.0])
    grid = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    frequencies = torch.bincount(sample_tokens(logits.expand(20000, 4), 0.7, grid), minlength=4) / 20000
    assert frequencies.tolist() == pytest.approx((logits / 0.7).softmax(-1).tolist(), abs=1e-4)


def test_a_draw_is_safe_at_the_edges():
    logits = torch.tensor([[3.0, 3.5, float("-inf")]])
    last = torch.tensor([np.nextafter(1.0, 0)])
    assert sample_tokens(logits, 1.0, last).tolist() == [1]
    assert sample_tokens(logits, 1.0, torch.zeros(1, dtype=torch.float64)).tolist() == [0]
    for uniform in (0.0, 0.3, 0.999):
        assert sample_tokens(logits * 1e4, 1e-300, torch.tensor([uniform], dtype=torch.float64)).tolist() == [1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"temperature": 1.0, "samples": 0}, "samples is 0"),
        ({"samples": 4}, "4 samples at temperature 0 are 4 times the same response; give a temperature"),
        ({"temperature": 1.0, "seed": -1}, "seed is -1"),
    ],
)
def test_sampling_that_cannot_be_is_refused(tiny, changes, said):
    with pytest.raises(EvaluationError, match=said):
        generate(tiny, SEQUENCES, **changes)
