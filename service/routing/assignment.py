"""Assignment: which variant a unit gets. Pure functions of an experiment and a unit's key, the same on every replica.

Weighted rendezvous hashing: each variant draws −ln(u) / share with u a hash of salt, variant and unit, and the smallest
draw wins. Those draws are exponential with rates in proportion to the shares, so the split is exact; and when one
variant's share changes relative to the others', only units that it gains or loses move.
"""

from __future__ import annotations

import hashlib
import math

from service.experiments.experiment import Experiment, Variant


def uniform(salt: str, purpose: str, key: str) -> float:
    """A number in (0, 1), uniform over keys, independent for each salt and purpose."""
    text = f"{salt}\0{purpose}\0{key}".encode(errors="surrogatepass")
    return (int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) + 0.5) / 2**64


def assign(experiment: Experiment, key: str) -> Variant:
    """The variant that the unit is shown."""
    shares = experiment.shares[-1]

    def draw(variant: Variant) -> float:
        share = shares[variant.name]
        return -math.log(uniform(experiment.salt, f"arm {variant.name}", key)) / share if share else math.inf

    return min(experiment.arms, key=draw)


def mirrored(experiment: Experiment, key: str) -> Variant | None:
    """The variant that answers a copy of this unit's requests; at most one."""
    point = uniform(experiment.salt, "mirror", key)
    for variant in experiment.mirrors:
        point -= variant.mirror
        if point < 0:
            return variant
    return None


def shown_counts(experiment: Experiment, key: str) -> bool:
    """Whether a mirrored unit stands for its shown variant in the tests, rather than for the mirrored: a fair coin.

    The two answers to one request are not independent, as a test of two groups needs: a unit is in one group.
    """
    return uniform(experiment.salt, "coin", key) < 0.5
