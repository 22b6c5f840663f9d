"""Evaluation: what a model does on prompts and texts that no mask was made from, and how a mask changes it."""

from correction.evaluation.card import Card, CardOptions, card
from correction.evaluation.compare import Comparison, compare, statements
from correction.evaluation.divergence import Baseline, Divergence
from correction.evaluation.evaluate import Evaluation, Response, evaluate
from correction.evaluation.noninferiority import Margins, Statement
from stats.estimates import Estimate

__all__ = [
    "Baseline",
    "Card",
    "CardOptions",
    "Comparison",
    "Divergence",
    "Estimate",
    "Evaluation",
    "Margins",
    "Response",
    "Statement",
    "card",
    "compare",
    "evaluate",
    "statements",
]
