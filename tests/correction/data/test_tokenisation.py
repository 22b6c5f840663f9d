import pytest
import torch

from correction.data.references import ReferenceSet
from correction.data.tokenisation import Batch, batches, encode, fitting_prompts
from correction.errors import ReferenceSetError


def words(tiny, ids):
    return tiny.tokenizer.convert_ids_to_tokens(ids)


def test_a_prompt_is_one_user_message_and_a_text_is_itself(tiny):
    prompt = ReferenceSet(("who are you",), "p", "prompt")
    assert words(tiny, encode(tiny, prompt)[0]) == ["<s>", "<user>", "who", "are", "you", "<end>", "<answer>"]
    assert words(tiny, encode(tiny, prompt, raw=True)[0]) == ["who", "are", "you"]
    assert words(tiny, encode(tiny, ReferenceSet(("who are you",), "t", "text"))[0]) == ["who", "are", "you"]


def test_a_long_text_is_cut_and_a_long_prompt_refused(tiny):
    long = " ".join(["sea"] * 80)
    text = ReferenceSet((long,), "t", "text")
    assert len(encode(tiny, text)[0]) == 64
    assert len(encode(tiny, text, max_length=10)[0]) == 10
    assert len(encode(tiny, text, room=20)[0]) == 44
    with pytest.raises(ReferenceSetError, match="prompt 2 has 80 tokens; the context of 64 leaves 60"):
        encode(tiny, ReferenceSet(("sea", long), "p", "prompt"), raw=True, room=4)
    with pytest.raises(ReferenceSetError, match="no room"):
        encode(tiny, text, room=64)


def test_prompts_that_leave_no_room_for_a_response_can_be_left_out_with_theirs(tiny):
    prompts = ReferenceSet(("sea", " ".join(["sea"] * 61), "cat"), "p", "prompt", ("a", "b", "c"))
    kept = fitting_prompts(tiny, prompts, raw=True, room=4)
    assert (kept.texts, kept.responses) == (("sea", "cat"), ("a", "c"))
    assert fitting_prompts(tiny, prompts, raw=True, room=3) == prompts
    with pytest.raises(ReferenceSetError, match=r"all 1 prompts are too long: the context of 64 tokens leaves 60"):
        fitting_prompts(tiny, prompts.taken([1]), raw=True, room=4)


@pytest.mark.parametrize("template", ["{{ raise_exception('no system prompt') }}", "{% if %}", "{{ messages.x.y }}"])
def test_a_chat_template_that_fails_is_one_sentence(tiny, monkeypatch, template):
    monkeypatch.setattr(tiny.tokenizer, "chat_template", template)
    with pytest.raises(
        ReferenceSetError, match=r"p: number 1: the model's chat template fails \(.*--raw leaves it out"
    ):
        encode(tiny, ReferenceSet(("sea",), "p", "prompt"))


def test_batches_keep_to_their_budget_and_lose_nothing():
    sequences = [[n] * length for n, length in enumerate([3, 9, 1, 4, 4, 30, 2])]
    seen = {}
    for places, batch in batches(sequences, tokens=12):
        assert batch.input_ids.numel() <= 12 or len(places) == 1
        for row, place in enumerate(places):
            seen[place] = batch.input_ids[row, : batch.lengths[row]].tolist()
    assert [seen[place] for place in range(len(sequences))] == sequences
    assert list(batches([], tokens=12)) == []


def test_padding_is_on_the_right():
    batch = Batch.of([[5, 6], [7]])
    assert batch.input_ids.tolist() == [[5, 6], [7, 0]]
    assert torch.equal(batch.lengths, torch.tensor([2, 1]))
