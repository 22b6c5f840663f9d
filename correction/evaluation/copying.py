"""Copying of random sequences: what induction heads do, and no text model can do by what words mean.

A sequence of random tokens comes twice; the model is scored on the second copy (Olsson et al. 2022, "In-context
Learning and Induction Heads"). The copy's own first token cannot be known, so scoring begins with its second.
"""

import numpy as np

from correction.errors import EvaluationError
from correction.models import LoadedModel


def random_copies(
    loaded: LoadedModel, count: int = 50, length: int = 50, seed: int = 0
) -> tuple[list[list[int]], list[int]]:
    """Random sequences, each twice in a row, after what the tokenizer puts before any text.

    Args:
        loaded: The model.
        count: Number of sequences.
        length: Tokens of one copy, at least 2.
        seed: Of the draws, uniform over the vocabulary without its special tokens.

    Returns:
        Token ids of each, and the place of the first that is to be scored.

    Raises:
        EvaluationError: Lengths or counts that cannot be used.
    """
    opening = list(loaded.tokenizer("", verbose=False)["input_ids"])
    room = (loaded.context_length - len(opening)) // 2
    if count < 1 or not 2 <= length <= room:
        raise EvaluationError(
            f"{count} sequences of {length} tokens: give at least 1, of 2 to {room} tokens, that fit the context twice"
        )
    size = min(len(loaded.tokenizer), int(loaded.model.config.vocab_size))
    special = set(loaded.tokenizer.all_special_ids)
    words = [token for token in range(size) if token not in special]
    drawn = np.random.default_rng(seed).choice(words, (count, length)).tolist()
    return [opening + once + once for once in drawn], [len(opening) + length + 1] * count
