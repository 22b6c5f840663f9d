"""Circuits: the components of a model that suffice for a task, found, measured, stored as a mask that cuts the rest.

pairs → tasks/ (one module each) → order (a criterion's relevance for the answer) → search (curve, size) → checks.
`ablation` says what stands in for the rest, `reading` what the model then answers, `metric` what that is worth.
"""

from correction.circuits.circuit import Circuit, Search, find
from correction.circuits.pairs import Pair, Row, Rows, tokenised
from correction.circuits.tasks import TASKS, rows

__all__ = ["TASKS", "Circuit", "Pair", "Row", "Rows", "Search", "find", "rows", "tokenised"]
