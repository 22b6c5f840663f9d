"""Evaluation: what a model does on prompts and texts that no mask was made from, and how a mask changes it."""

from correction.evaluation.bootstrap import Estimate
from correction.evaluation.card import Card, Reading, card
from correction.evaluation.compare import Comparison, compare, statements
from correction.evaluation.divergence import Baseline, Divergence
from correction.evaluation.evaluate import Evaluation, Response, evaluate
from correction.evaluation.noninferiority import Margins, Statement

__all__ = [
    "Baseline",
    "Card",
    "Comparison",
    "Divergence",
    "Estimate",
    "Evaluation",
    "Margins",
    "Reading",
    "Response",
    "Statement",
    "card",
    "compare",
    "evaluate",
    "statements",
]
