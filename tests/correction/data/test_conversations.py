"""The shapes in which others keep prompts and answers, each read to the same set."""

import json

import pytest

from correction.data.references import read

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who are you?"},
    {"role": "assistant", "content": "A model."},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "Who knows."},
]
PARTS = [
    {"role": "user", "content": [{"type": "text", "text": "Who are you?"}, {"type": "image_url", "image_url": {}}]},
    {"role": "assistant", "content": [{"type": "text", "text": "A model."}]},
]
SHARED = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "Who are you?"},
    {"from": "gpt", "value": "A model."},
]
SHAPES = {
    "openai": {"messages": TURNS, "id": 7},
    "parts": {"messages": PARTS},
    "turns": TURNS,
    "prompt": {"prompt": TURNS},
    "sharegpt": {"conversations": SHARED},
    "alpaca": {"instruction": "Who are you?", "input": "", "output": "A model.", "text": "### all of it"},
}


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("shape", SHAPES)
def test_the_first_turn_of_the_user_is_the_prompt_and_its_answer_the_response(tmp_path, shape):
    references = read(write(tmp_path / "a.jsonl", SHAPES[shape], SHAPES[shape]), kind="prompt")
    assert references.texts == ("Who are you?", "Who are you?")
    assert references.responses == ("A model.", "A model.")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_single_row_and_a_pretty_printed_array_are_read_alike(tmp_path, shape):
    assert read(write(tmp_path / "a.jsonl", SHAPES[shape]), kind="prompt").texts == ("Who are you?",)
    (tmp_path / "a.json").write_text(json.dumps([SHAPES[shape]] * 2, indent=1))
    assert read(tmp_path / "a.json", kind="prompt").texts == ("Who are you?",) * 2


def test_as_text_a_conversation_is_what_user_and_model_say(tmp_path):
    for shape in ("openai", "turns"):
        (text,) = read(write(tmp_path / "a.jsonl", SHAPES[shape])).texts
        assert text == "Who are you?\n\nA model.\n\nWhy?\n\nWho knows."
    assert read(write(tmp_path / "a.jsonl", SHAPES["sharegpt"])).texts == ("Who are you?\n\nA model.",)
    assert read(write(tmp_path / "a.jsonl", SHAPES["alpaca"])).texts == ("### all of it",)
    row = {"instruction": "Translate.", "input": "chat", "output": "cat"}
    assert read(write(tmp_path / "a.jsonl", row)).texts == ("Translate.\n\nchat\n\ncat",)


def test_an_input_belongs_to_its_instruction(tmp_path):
    row = {"instruction": "Translate.", "input": "chat", "output": "cat"}
    references = read(write(tmp_path / "a.jsonl", row), kind="prompt")
    assert (references.texts, references.responses) == (("Translate.\n\nchat",), ("cat",))
    (tmp_path / "a.csv").write_text("instruction,input,output\nTranslate.,chat,cat\n")
    assert read(tmp_path / "a.csv", kind="prompt").texts == ("Translate.\n\nchat",)


def test_answers_count_where_every_conversation_has_one(tmp_path):
    unanswered = {"messages": [{"role": "user", "content": "And you?"}]}
    references = read(write(tmp_path / "a.jsonl", SHAPES["openai"], unanswered), kind="prompt")
    assert (references.texts, references.responses) == (("Who are you?", "And you?"), None)


def test_an_explicit_prompt_comes_before_a_conversation(tmp_path):
    row = {"prompt": "p", "messages": TURNS, "instruction": "i", "text": "t"}
    assert read(write(tmp_path / "a.jsonl", row), kind="prompt").texts == ("p",)
    assert read(write(tmp_path / "a.jsonl", row)).texts == ("t",)
