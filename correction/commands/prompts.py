"""Prompts that a model has no room for: left out and counted, where commands read them."""

from correction import distributed
from correction.models import LoadedModel
from correction.references import ReferenceSet
from correction.terminal import warn
from correction.tokenisation import fitting


def short_enough(loaded: LoadedModel, prompts: ReferenceSet, *, raw: bool, room: int) -> ReferenceSet:
    """The prompts that leave `room` tokens for a response; a line on standard error tells how many do not.

    Raises:
        ReferenceSetError: none does.
    """
    kept = fitting(loaded, prompts, raw=raw, room=room)
    if (lost := len(prompts) - len(kept)) and distributed.rank() == 0:
        warn(
            f"{prompts.name}: {lost} of {len(prompts)} prompts are left out, too long for the context of "
            f"{loaded.context_length} tokens with a response of {room}"
        )
    return kept
