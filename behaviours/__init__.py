"""Measures of unwanted behaviour: the same code offline (`correction`) and online (`service`).

A leaf package: it imports numpy, and a scorer's own library only when that scorer is asked for.
"""

from behaviours.repetition import REPETITIVE_BELOW, is_repetitive, response_uniqueness_ratio
from behaviours.toxicity import ProfanityScorer, ScorerError, ToxicityScorer, load_scorer

__all__ = [
    "REPETITIVE_BELOW",
    "ProfanityScorer",
    "ScorerError",
    "ToxicityScorer",
    "is_repetitive",
    "load_scorer",
    "response_uniqueness_ratio",
]
