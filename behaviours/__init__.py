"""Measures of unwanted behaviour: the same code offline (`correction`) and online (`service`).

A leaf package: it imports numpy, and a scorer's own library only when that scorer is asked for.
"""

from behaviours.classifier import ClassifierScorer
from behaviours.loading import load_scorer
from behaviours.moderations import ModerationsScorer
from behaviours.profanity import ProfanityScorer
from behaviours.refusal import is_refusal
from behaviours.repetition import REPETITIVE_BELOW, is_repetitive, repeated, response_uniqueness_ratio
from behaviours.scorer import CheckedScorer, ScorerError, ScorerUnavailableError, ToxicityScorer, checked

__all__ = [
    "REPETITIVE_BELOW",
    "CheckedScorer",
    "ClassifierScorer",
    "ModerationsScorer",
    "ProfanityScorer",
    "ScorerError",
    "ScorerUnavailableError",
    "ToxicityScorer",
    "checked",
    "is_refusal",
    "is_repetitive",
    "load_scorer",
    "repeated",
    "response_uniqueness_ratio",
]
