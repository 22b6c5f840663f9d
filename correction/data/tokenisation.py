"""Reference sets as token ids, and right-padded batches of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from correction.data.references import ReferenceSet
from correction.errors import ReferenceSetError
from correction.models import LoadedModel


@dataclass(frozen=True)
class Batch:
    """Sequences side by side, padded on the right.

    A causal model needs no attention mask for padding on the right: no real token attends to it, and no gradient of
    a real position reaches it. Positions count from 0 in every row, as they would alone.

    Attributes:
        input_ids: int64 (rows, tokens).
        lengths: int64 (rows,), the tokens of each row that are real.
    """

    input_ids: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> "Batch":
        """Pad sequences of at least one token to the longest of them."""
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        ids = torch.zeros(len(sequences), int(lengths.max()), dtype=torch.int64)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence)
        return cls(ids.to(device), lengths.to(device))


def encode(
    loaded: LoadedModel,
    references: ReferenceSet,
    *,
    raw: bool = False,
    max_length: int | None = None,
    room: int = 0,
) -> list[list[int]]:
    """Token ids of each reference.

    A prompt becomes one user message in the tokenizer's chat template, with the opening of the answer, unless there is
    no template or `raw` is set. A text is taken as it is, and cut at the end.

    Args:
        loaded: The model.
        references: Prompts or texts.
        raw: Whether prompts are read without the chat template.
        max_length: Texts are cut to this many tokens; by default, to what the context leaves.
        room: Tokens to leave free in the context, for a response.

    Raises:
        ReferenceSetError: A prompt that does not fit (prompts are never cut), or one that has no tokens.
    """
    limit = _limit(loaded, room)
    sequences = []
    for number, ids in enumerate(_token_ids(loaded, references, raw), 1):
        if references.kind == "text":
            ids = ids[: min(limit, max_length or limit)]
        if len(ids) > limit:
            raise ReferenceSetError(
                f"{references.name}: prompt {number} has {len(ids)} tokens; the context of {loaded.context_length} "
                f"leaves {limit} beside a response of {room}. Shorten or drop it"
            )
        sequences.append(ids)
    return sequences


def fitting_prompts(loaded: LoadedModel, prompts: ReferenceSet, *, raw: bool = False, room: int = 0) -> ReferenceSet:
    """The prompts that leave `room` tokens of the context for a response, with the responses that they came with.

    Raises:
        ReferenceSetError: None does, or one has no tokens.
    """
    limit = _limit(loaded, room)
    places = [place for place, ids in enumerate(_token_ids(loaded, prompts, raw)) if len(ids) <= limit]
    if not places:
        raise ReferenceSetError(
            f"{prompts.name}: all {len(prompts)} prompts are too long: the context of {loaded.context_length} tokens "
            f"leaves {limit} beside a response of {room}. Give shorter ones, or lower --max-new-tokens"
        )
    return prompts.taken(places)


def _limit(loaded: LoadedModel, room: int) -> int:
    limit = loaded.context_length - room
    if limit < 1:
        raise ReferenceSetError(f"no room: {room} tokens asked for, and the context has {loaded.context_length}")
    return limit


def _token_ids(loaded: LoadedModel, references: ReferenceSet, raw: bool) -> Iterator[list[int]]:
    """Of each reference, however long."""
    tokenizer = loaded.tokenizer
    chat = references.kind == "prompt" and not raw and getattr(tokenizer, "chat_template", None) is not None
    for number, text in enumerate(references.texts, 1):
        if chat:
            text = _rendered(tokenizer, text, f"{references.name}: number {number}")
        ids = list(tokenizer(text, add_special_tokens=not chat, verbose=False)["input_ids"])
        if not ids:
            raise ReferenceSetError(f"{references.name}: number {number} has no tokens in this model's vocabulary")
        yield ids


def _rendered(tokenizer: Any, prompt: str, where: str) -> str:
    message = [{"role": "user", "content": prompt}]
    try:
        return str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # of any type: a template is a program that somebody else wrote
        reason = " ".join(str(error).split())[:300]
        raise ReferenceSetError(
            f"{where}: the model's chat template fails ({type(error).__name__}: {reason}); --raw leaves it out"
        ) from error


def first_tokens(loaded: LoadedModel, texts: ReferenceSet, tokens: int, longest: int | None = None) -> ReferenceSet:
    """The first texts, as many as hold so many tokens together, of each text at most the `longest` counted."""
    total = 0
    for count, ids in enumerate(encode(loaded, texts, max_length=longest), 1):
        total += len(ids)
        if total >= tokens:
            return texts.taken(range(count))
    return texts


def batches(
    sequences: Sequence[Sequence[int]], tokens: int = 4096, device: torch.device | str = "cpu"
) -> Iterator[tuple[list[int], Batch]]:
    """Batches of at most `tokens` tokens, padding included, each with its places in `sequences`.

    Sequences of like length go together; one that is longer than the budget goes alone.
    """
    order = sorted(range(len(sequences)), key=lambda place: (len(sequences[place]), place))
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * len(sequences[order[end]]) <= tokens:
            end += 1
        places = order[start:end]
        yield places, Batch.of([sequences[place] for place in places], device)
        start = end
