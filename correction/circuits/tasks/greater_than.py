"""Greater-than (Hanna et al. 2023): a span of years ends later than it begins.

"The war lasted from the year 1742 to the year 17" goes on with a number over 42. Where a vocabulary has numbers of two
digits the answers are such numbers; where it has digits only, they are the tens digit. In the corrupted prompt the year
ends in 01 (or its tens digit is 0), which asks for nothing: every answer is later.
"""

from collections.abc import Callable

import numpy as np

from correction.circuits.prompt_pairs import Pair

EVENTS = tuple(
    """
    war siege famine voyage revolt drought dispute expedition campaign reign project journey trial construction
    search rebellion treaty plague partnership tour study exhibition blockade occupation mission crusade
    excavation feud truce
    """.split()  # noqa: SIM905
)


def make(one: Callable[[str], bool], count: int, seed: int) -> list[Pair]:
    """`count` pairs: the right answer is drawn from the later numbers, the wrong one from the earlier."""
    generator = np.random.default_rng(seed)
    digits = not all(one(f"{number:02d}") for number in range(100))
    pairs = []
    for _ in range(count):
        century = int(generator.integers(11, 20))
        if digits:
            start, unit = int(generator.integers(2, 8)), int(generator.integers(10))
            later, earlier = generator.integers(start + 1, 10), generator.integers(0, start)
            began, from_nothing = f"{century}{start}{unit}", f"{century}0{unit}"
            correct, wrong = f"{later}", f"{earlier}"
        else:
            start = int(generator.integers(2, 98))
            later, earlier = generator.integers(start + 1, 100), generator.integers(0, start)
            began, from_nothing = f"{century}{start:02d}", f"{century}01"
            correct, wrong = f"{later:02d}", f"{earlier:02d}"
        event = generator.choice(EVENTS)
        text = f"The {event} lasted from the year {{}} to the year {century}"
        pairs.append(Pair(text.format(began), text.format(from_nothing), correct, wrong))
    return pairs


TASKS = {"greater-than": make}
