import pytest
import torch

from correction.generation import end_tokens, respond

SEQUENCES = [[1, 8, 17, 30, 9, 22], [1, 14], [1, 40, 11, 12, 33, 7, 19, 28, 35], [5]]


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


@pytest.mark.parametrize("tokens", [1, 4096])
def test_responses_are_those_of_reading_everything_again(tiny, tokens):
    ends = end_tokens(tiny)
    expected = [slow(tiny.model, ids, 12, ends) for ids in SEQUENCES]
    assert respond(tiny, SEQUENCES, max_new_tokens=12, tokens=tokens) == expected


def test_the_end_token_ends_a_response_and_is_no_part_of_it(tiny):
    whole = respond(tiny, SEQUENCES[:1], max_new_tokens=8)[0]
    tiny.model.generation_config.eos_token_id = [2, whole[3]]
    assert end_tokens(tiny) == {2, whole[3]}
    assert respond(tiny, SEQUENCES[:1], max_new_tokens=8)[0] == whole[: whole.index(whole[3])]
    tiny.model.generation_config.eos_token_id = whole[0]
    assert respond(tiny, SEQUENCES[:1], max_new_tokens=8) == [[]]


def test_progress_is_told(tiny):
    told = []
    respond(tiny, SEQUENCES, max_new_tokens=2, tokens=1, progress=lambda *call: told.append(call))
    assert told == [("responses", done, 4) for done in (1, 2, 3, 4)]
