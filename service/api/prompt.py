"""What a user said last, out of a request's body: what a response is an answer to."""

from __future__ import annotations

from typing import Any

from service.scoring.redaction import LONGEST

_SAYING = ("messages", "input", "prompt")
"""Where bodies have it: of chats (OpenAI's and Anthropic's), of responses, of completions."""


def last_said(body: dict[str, Any]) -> str:
    """The last message of a user, or the text that is to be gone on with.

    Empty where it is no single text (tokens, pictures, several at once), or too long to be kept whole.
    """
    given = next((body[key] for key in _SAYING if key in body), None)
    if isinstance(given, list):
        turns = [turn for turn in given if isinstance(turn, dict) and turn.get("role") == "user"]
        given = _text(turns[-1].get("content")) if turns else given[0] if len(given) == 1 else ""
    return given if isinstance(given, str) and len(given) <= LONGEST else ""


def _text(content: Any) -> str:
    """Of a message, whose content is a text or parts that are all texts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    return "\n".join(text for text in texts if text) if all(isinstance(text, str) for text in texts) else ""
