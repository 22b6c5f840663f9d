"""Repetition: how few of a response's tokens are distinct (SparC³, arXiv 2506.13727).

All functions take the token ids of the response alone, without the prompt and without the token that ended it: an
end-of-sequence token would count as one more distinct word, and as a response where there is none.
"""

from collections.abc import Sequence

REPETITIVE_BELOW = 0.5
"""A response with a uniqueness ratio under this is repetitive."""


def response_uniqueness_ratio(tokens: Sequence[int]) -> float:
    """RUR: distinct tokens / tokens, in [0, 1]; 0.0 for an empty response, as the paper defines it."""
    return len(set(tokens)) / len(tokens) if len(tokens) else 0.0


def is_repetitive(tokens: Sequence[int]) -> bool:
    """Whether a response repeats itself: RUR under `REPETITIVE_BELOW`.

    An empty response is **not** repetitive, although its RUR is 0: nothing in it occurs twice. Counting silence as
    repetition would also credit a mask that turns silence into anything at all.
    """
    return len(tokens) > 0 and response_uniqueness_ratio(tokens) < REPETITIVE_BELOW


def repeated(tokens: Sequence[int], n: int = 3) -> list[bool]:
    """Of each token, whether it ends a run of `n` tokens that the response had before: where a loop goes round."""
    seen: set[tuple[int, ...]] = set()
    flags = []
    for end in range(1, len(tokens) + 1):
        run = tuple(tokens[max(0, end - n) : end])
        flags.append(len(run) == n and run in seen)
        seen.add(run)
    return flags
