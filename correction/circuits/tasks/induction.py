"""Induction (Olsson et al. 2022): what followed some words before follows them again.

A list of random words, then three of them in a row: the next is the one that came next in the list. In the corrupted
prompt the three are others of the list, and the wrong answer is the one that comes next there. The first word has no
space before it, which makes another token of it, so that the three never begin with it.
"""

from collections.abc import Callable, Sequence

import numpy as np

from correction.circuits.prompt_pairs import Pair, single_token_words

WORDS = tuple(
    """
    apple river house green stone paper music garden window train bread horse metal school doctor winter summer
    orange silver market bridge island forest mountain table chair ocean dragon pencil camera letter coffee
    church castle engine farmer soldier teacher rabbit tiger lion
    """.split()  # noqa: SIM905
)
LENGTH, RUN = 10, 3


def make(
    one: Callable[[str], bool], count: int, seed: int, *, words: Sequence[str] = WORDS, length: int = LENGTH
) -> list[Pair]:
    """`count` pairs over those of the words that are one token.

    Raises:
        ReferenceSetError: They are too few.
    """
    known = single_token_words("induction", "words", words, one, length)
    generator = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        listed = [known[place] for place in generator.choice(len(known), length, replace=False)]
        here, there = (int(place) for place in 1 + generator.choice(length - RUN - 1, 2, replace=False))
        clean, corrupted = ("".join(listed + listed[place : place + RUN]).removeprefix(" ") for place in (here, there))
        pairs.append(Pair(clean, corrupted, listed[here + RUN], listed[there + RUN]))
    return pairs


TASKS = {"induction": make}
