"""Rows that hold a conversation or an instruction: which of it is the prompt, and which the response.

| shape | as in |
|---|---|
| `{"messages": [{"role": "user", "content": …}, …]}`, or such a list alone, or under `prompt` | OpenAI, TRL |
| `{"conversations": [{"from": "human", "value": …}, …]}` | ShareGPT |
| `{"instruction": …, "input": …, "output": …}` | Alpaca |

The prompt of a conversation is its user's first turn, and the response the turn that answers it. A system prompt and
later turns are left out: a prompt is rendered as one message. As text, it is all turns but the system's.
"""

from collections.abc import Mapping
from typing import Any, TypeGuard

COLUMNS = ("messages", "conversations", "conversation")
INSTRUCTION = "instruction"

_USERS = ("user", "human")
_ANSWERERS = ("assistant", "gpt", "model", "bot", "chatgpt")


def is_turns(value: object) -> TypeGuard[list[Any]]:
    """Whether this is the turns of a conversation."""
    return isinstance(value, list) and bool(value) and all(_role_and_text(turn) is not None for turn in value)


def first_exchange(turns: list[Any]) -> tuple[str, str | None]:
    """The user's first turn and what was answered, None where nothing was; an empty text where no user speaks."""
    spoken = [said for turn in turns if (said := _role_and_text(turn)) is not None]
    for place, (role, text) in enumerate(spoken):
        if role in _USERS:
            after = spoken[place + 1 :][:1]
            return text, next((answer for who, answer in after if who in _ANSWERERS), None)
    return "", None


def whole(turns: list[Any]) -> str:
    """All that user and model say, a blank line between two turns."""
    spoken = [said for turn in turns if (said := _role_and_text(turn)) is not None]
    return _joined(text for role, text in spoken if role in (*_USERS, *_ANSWERERS))


def instruction(row: Mapping[str, Any]) -> tuple[str, str | None]:
    """An instruction with its input, and the output, None where there is none."""
    parts = [row.get(INSTRUCTION), row.get("input")]
    output = row.get("output")
    return _joined(part for part in parts if isinstance(part, str)), output if isinstance(output, str) else None


def instruction_whole(row: Mapping[str, Any]) -> str:
    """Instruction, input and output."""
    prompt, output = instruction(row)
    return _joined((prompt, output or ""))


def _joined(parts: Any) -> str:
    return "\n\n".join(part for part in parts if part.strip())


def _role_and_text(turn: object) -> tuple[str, str] | None:
    """Role and text of a turn, None where it is none."""
    if not isinstance(turn, Mapping):
        return None
    for who, what in (("role", "content"), ("from", "value")):
        if isinstance(turn.get(who), str) and what in turn:
            return turn[who].lower(), _text(turn[what])
    return None


def _text(content: object) -> str:
    """Of a turn's content: a text, or a list of parts of which some are texts."""
    if isinstance(content, list):
        return _joined(_text(part.get("text")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""
