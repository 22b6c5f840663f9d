"""Criteria: how much each component contributed to an output.

A criterion is attached to a model for a while, sees batches of seeded samples, and yields a score of every component.
It changes the model, if it must, only inside its context manager, which puts everything back. One module each.
"""

from correction.criteria.activation import ACTIVATION
from correction.criteria.cap import CAP
from correction.criteria.causal import CAUSAL
from correction.criteria.criterion import Attached, Criterion, Score, Zeros
from correction.criteria.gradient import GRADIENT
from correction.criteria.lrp import LRP
from correction.criteria.magnitude import MAGNITUDE
from correction.criteria.random import RANDOM
from correction.criteria.seeds import SeededBatch
from correction.criteria.settings import OutputSeed, Settings, Sign
from correction.criteria.snip import SNIP
from correction.criteria.wanda import WANDA
from correction.errors import CriterionError

CRITERIA: dict[str, Criterion] = {
    criterion.name: criterion for criterion in (LRP, GRADIENT, SNIP, WANDA, ACTIVATION, CAUSAL, CAP, MAGNITUDE, RANDOM)
}

__all__ = [
    "CRITERIA",
    "Attached",
    "Criterion",
    "OutputSeed",
    "Score",
    "SeededBatch",
    "Settings",
    "Sign",
    "Zeros",
    "find",
]


def find(name: str) -> Criterion:
    """The criterion of this name.

    Raises:
        CriterionError: there is none.
    """
    try:
        return CRITERIA[name]
    except KeyError:
        raise CriterionError(f"criterion {name!r} does not exist; there is: {', '.join(CRITERIA)}") from None
