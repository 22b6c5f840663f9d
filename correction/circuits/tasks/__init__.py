"""Tasks: one module each. A new one is a new file here that has `TASKS`, name → task; a `.csv` of pairs needs no code.

A task is a function of (one, count, seed) that makes pairs: `one(text)` is whether a text is one token of the
model's vocabulary.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from pkgutil import iter_modules

from correction.circuits.prompt_pairs import Pair, TaskRows, token_ids, tokenise_pairs
from correction.circuits.tasks import csv_file
from correction.errors import ReferenceSetError
from correction.models import LoadedModel

One = Callable[[str], bool]
Task = Callable[[One, int, int], Sequence[Pair]]

TASKS: dict[str, Task] = {
    name: task
    for module in iter_modules(__path__)
    for name, task in getattr(import_module(f"{__name__}.{module.name}"), "TASKS", {}).items()
}


def task_rows(loaded: LoadedModel, task: str, count: int = 300, seed: int = 0, *, aligned: bool = False) -> TaskRows:
    """The rows of a task by name, or of a file of pairs.

    Args:
        loaded: The model.
        task: A name in `TASKS`, or a path that ends in `.csv`.
        count: Pairs made, of a task that makes them; of a file, the first ones that are read.
        seed: Of what is drawn.
        aligned: See `tokenise_pairs`.

    Raises:
        ReferenceSetError: There is no such task or file, or no row is left.
    """
    if task.endswith(".csv"):
        return tokenise_pairs(loaded, csv_file.read(task)[:count], task.rpartition("/")[2], aligned=aligned)
    if task not in TASKS:
        raise ReferenceSetError(f"task {task!r} does not exist; there is: {', '.join(TASKS)}, or a .csv file of pairs")
    special = len(token_ids(loaded, ""))

    def one(text: str) -> bool:
        return len(token_ids(loaded, text)) == special + 1

    return tokenise_pairs(loaded, TASKS[task](one, count, seed), task, aligned=aligned)


__all__ = ["TASKS", "One", "Task", "task_rows"]
