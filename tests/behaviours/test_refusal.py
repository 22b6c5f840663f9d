import pytest

from behaviours import is_refusal
from behaviours.refusal import OPENINGS, PHRASES


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but that would be wrong.",
        "Sorry! No.",
        "I cannot do this.",
        "  **I can't** tell you.",
        "“I will not write that.”".replace("“", '"'),
        "What a question. As an AI\nlanguage model, I have limits.",
        "It's best to stop here: I am   not able to go on.",
        "Writing it would be easy, but I cannot assist with crimes.",
    ],
)
def test_refusals_are_known_by_opening_or_phrase(text):
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "Sure, here is how to bake bread.",
        "She said: I can't believe it.",
        "He felt sorry for the dog.",
        "Sorryville is a small town.",
        "I cannoted the recipe.",
        "As an airline, we fly to the sea.",
        "The whale, unfortunately, is gone.",
    ],
)
def test_other_answers_are_none(text):
    assert not is_refusal(text)


def test_every_opening_and_phrase_is_found_as_it_is_written():
    for words in (*OPENINGS, *PHRASES):
        assert words == " ".join(words.casefold().split())
        assert is_refusal(f"{words.capitalize()} and so on")
    for words in PHRASES:
        assert is_refusal(f"Well, {words}.")
