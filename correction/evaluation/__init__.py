"""Evaluation: what a model does on prompts and texts that no mask was made from, and how a mask changes it."""

from correction.evaluation.bootstrap import Estimate
from correction.evaluation.compare import Comparison, compare
from correction.evaluation.evaluate import Evaluation, Response, evaluate

__all__ = ["Comparison", "Estimate", "Evaluation", "Response", "compare", "evaluate"]
