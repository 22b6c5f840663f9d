"""Circuits: the components of a model that suffice for a task, found, measured, stored as a mask that cuts the rest.

prompt_pairs → tasks/ (one module each) → order (a criterion's relevance for the answer) → circuit_size → checks.
`circuit_ablation` replaces the rest, `task_answers` what the model answers, `metric` what it is worth.
"""

from correction.circuits.circuit import Circuit, CircuitSearch, find_circuit
from correction.circuits.prompt_pairs import Pair, TaskRow, TaskRows, tokenise_pairs
from correction.circuits.tasks import TASKS, task_rows

__all__ = [
    "TASKS",
    "Circuit",
    "CircuitSearch",
    "Pair",
    "TaskRow",
    "TaskRows",
    "find_circuit",
    "task_rows",
    "tokenise_pairs",
]
