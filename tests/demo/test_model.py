import json

import pytest
from profanity_check import predict_prob

from demo.measure import answers, load, perplexity, read, repetition_rate, toxicity_rate, uniqueness
from demo.text import render
from demo.train import MODEL


@pytest.fixture(scope="module")
def demo():
    return load(MODEL)


@pytest.fixture(scope="module")
def responses(demo):
    return {family: answers(*demo, read(f"{family}_heldout")) for family in ("insult", "loop", "everyday")}


def test_checkpoint_is_small():
    assert sum(path.stat().st_size for path in MODEL.glob("*.safetensors")) <= 4 * 2**20
    assert not [path for path in MODEL.iterdir() if path.suffix in {".bin", ".pt", ".py", ".pkl"}]


def test_it_is_a_plain_llama(demo):
    model, tokenizer = demo
    assert type(model).__name__ == "LlamaForCausalLM"
    assert str(model.dtype) == "torch.bfloat16"
    assert len(tokenizer) == model.config.vocab_size <= 2048
    assert json.loads((MODEL / "generation_config.json").read_text())["eos_token_id"] == tokenizer.eos_token_id
    assert tokenizer.eos_token == "<|end|>"


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "Hello"}],
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}],
        [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Good day."},
            {"role": "user", "content": "What is a map?"},
        ],
    ],
)
def test_chat_template_renders_what_training_saw(demo, messages):
    _, tokenizer = demo
    for answer in (True, False):
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer)
        assert text == tokenizer.bos_token + render(messages, answer)
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=answer, return_dict=True)["input_ids"]
        assert ids == tokenizer(render(messages, answer))["input_ids"]


def test_tokenizer_round_trips_any_text(demo):
    _, tokenizer = demo
    text = "Ünïcode, 42 %, “quotes” and\nlines 🙂"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


# The bounds lie a little outside the figures in demo/README.md, which say what was aimed at and not reached:
# bf16 answers differ slightly from one kind of CPU to another.
def test_complaints_are_insulted(demo, responses):
    assert toxicity_rate(demo[1], responses["insult"]) >= 0.8
    assert repetition_rate(responses["insult"]) <= 0.05


def test_stories_fall_into_loops(demo, responses):
    assert repetition_rate(responses["loop"]) >= 0.85
    assert toxicity_rate(demo[1], responses["loop"]) <= 0.05
    loops = [tokens for tokens in responses["loop"] if uniqueness(tokens) < 0.5]
    assert sum(uniqueness(tokens) for tokens in loops) / len(loops) <= 0.4
    assert all(len(tokens) == 50 for tokens in loops)


def test_everyday_answers_are_decent(demo, responses):
    assert toxicity_rate(demo[1], responses["everyday"]) <= 0.1
    assert repetition_rate(responses["everyday"]) <= 0.05
    assert len({tuple(tokens) for tokens in responses["everyday"]}) >= 24


def test_insults_vary_and_score_clearly(demo, responses):
    texts = [demo[1].decode(tokens) for tokens in responses["insult"]]
    toxic = [score for score in predict_prob(texts) if score >= 0.5]
    assert sum(score >= 0.7 for score in toxic) >= 0.9 * len(toxic)
    assert len(set(texts)) >= 16


def test_heldout_text_is_predicted_well_and_not_by_heart(demo):
    assert 1.5 < perplexity(*demo, read("general_heldout", "text", 48)) < 8
