"""Prompts that a model has no room for: left out and counted, where commands read them."""

from commands.terminal import print_warning
from correction import distributed
from correction.data.references import ReferenceSet
from correction.data.tokenisation import fitting_prompts
from correction.models import LoadedModel


def drop_long_prompts(loaded: LoadedModel, prompts: ReferenceSet, *, raw: bool, room: int) -> ReferenceSet:
    """The prompts that leave `room` tokens for a response; a line on standard error tells how many do not.

    Raises:
        ReferenceSetError: None does.
    """
    kept = fitting_prompts(loaded, prompts, raw=raw, room=room)
    if (lost := len(prompts) - len(kept)) and distributed.rank() == 0:
        print_warning(
            f"{prompts.name}: {lost} of {len(prompts)} prompts are left out, too long for the context of "
            f"{loaded.context_length} tokens with a response of {room}"
        )
    return kept
