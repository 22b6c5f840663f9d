"""Indirect object identification (Wang et al. 2023): who of two people was given something.

"When Mary and John went to the store, John gave a drink to" goes on with " Mary", not " John". Half of the prompts name
the receiver first (ABBA), half the giver (BABA).
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from correction.circuits.prompt_pairs import Pair, single_token_words

NAMES = tuple(
    """
    Aaron Adam Alan Alex Alice Amy Andrew Anna Anthony Arthur Austin Brian Carter Charles Christian Clark
    Crystal Daniel David Dean Edward Elizabeth Emily Eric Frank George Graham Grant Henry Jack Jacob Jake James
    Jamie Jane Jason Jennifer Jeremy Jessica John Jonathan Jordan Joseph Joshua Justin Kate Kelly Kevin Laura
    Lewis Lisa Louis Luke Maria Mark Martin Mary Matthew Max Michael Michelle Morgan Patrick Paul Peter Rachel
    Richard Robert Rose Ruby Ryan Sarah Scott Simon Stephen Steven Taylor Thomas Tyler Victoria William
    """.split()  # noqa: SIM905
)
TEMPLATES = (
    "Then,{a} and{b} went to the {place}.{s} gave a {thing} to",
    "Then,{a} and{b} had a lot of fun at the {place}.{s} gave a {thing} to",
    "Then,{a} and{b} were working at the {place}.{s} decided to give a {thing} to",
    "When{a} and{b} went to the {place},{s} gave a {thing} to",
    "While{a} and{b} were sitting in the {place},{s} handed a {thing} to",
    "After{a} and{b} met at the {place},{s} offered a {thing} to",
)
PLACES = ("store", "garden", "restaurant", "school", "hospital", "office", "house", "station")
THINGS = ("drink", "kiss", "ring", "book", "basketball", "computer", "necklace", "snack")
FEWEST = 10


def make(one: Callable[[str], bool], count: int, seed: int, *, renamed: bool = False) -> list[Pair]:
    """`count` pairs, ABBA and BABA in turn, with names that are one token each.

    The corrupted prompt has the second subject swapped for the receiver, so that the right answer changes sides; or,
    `renamed`, three new names that are all different, so that there is none.

    Raises:
        ReferenceSetError: Fewer than ten names are one token.
    """
    names = single_token_words("ioi", "names", NAMES, one, FEWEST)
    generator = np.random.default_rng(seed)
    pairs = []
    for number in range(count):
        receiver, giver, *new = (names[place] for place in generator.choice(len(names), 5, replace=False))
        template = TEMPLATES[generator.integers(len(TEMPLATES))]
        filled = {"place": str(generator.choice(PLACES)), "thing": str(generator.choice(THINGS))}
        first, second = (receiver, giver) if number % 2 == 0 else (giver, receiver)
        clean = template.format(a=first, b=second, s=giver, **filled)
        if renamed:
            corrupted = template.format(a=new[0], b=new[1], s=new[2], **filled)
        else:
            corrupted = template.format(a=first, b=second, s=receiver, **filled)
        pairs.append(Pair(clean, corrupted, receiver, giver))
    return pairs


TASKS = {"ioi": make, "ioi-names": partial(make, renamed=True)}
