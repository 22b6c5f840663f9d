"""Criteria: how much each component contributed to an output.

A criterion is a function of a model, the samples and the settings that yields the relevance of every component,
averaged over the samples. It changes the model, if it must, only inside a context manager that puts everything back.
"""

from collections.abc import Callable, Sequence

from correction.criteria import lrp, random
from correction.criteria.seeds import SeededBatch
from correction.criteria.settings import OutputSeed, Settings, Sign
from correction.errors import CriterionError
from correction.models import LoadedModel
from correction.progress import Progress
from correction.relevance import Relevance

Criterion = Callable[[LoadedModel, Sequence[SeededBatch], Settings, Progress], Relevance]

CRITERIA: dict[str, Criterion] = {"lrp": lrp.relevance, "random": random.relevance}

__all__ = ["CRITERIA", "Criterion", "OutputSeed", "SeededBatch", "Settings", "Sign", "find"]


def find(name: str) -> Criterion:
    """The criterion of this name.

    Raises:
        CriterionError: there is none.
    """
    try:
        return CRITERIA[name]
    except KeyError:
        raise CriterionError(f"criterion {name!r} does not exist; there is: {', '.join(sorted(CRITERIA))}") from None
