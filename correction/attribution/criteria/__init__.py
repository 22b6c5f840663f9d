"""Criteria: how much each component contributed to an output.

A criterion is attached to a model for a while, sees batches of seeded samples, and yields a score of every component.
It changes the model, if it must, only inside its context manager, which puts everything back. One module each.
"""

from correction.attribution.criteria.activation import ACTIVATION
from correction.attribution.criteria.cap import CAP
from correction.attribution.criteria.causal import CAUSAL
from correction.attribution.criteria.criterion import Attached, Criterion, Score, Zeros
from correction.attribution.criteria.criterion_settings import OutputSeed, Settings, Sign
from correction.attribution.criteria.gradient import GRADIENT
from correction.attribution.criteria.lrp import LRP
from correction.attribution.criteria.magnitude import MAGNITUDE
from correction.attribution.criteria.output_seeds import SeededBatch
from correction.attribution.criteria.random import RANDOM
from correction.attribution.criteria.snip import SNIP
from correction.attribution.criteria.wanda import WANDA
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
    "find_criterion",
]


def find_criterion(name: str) -> Criterion:
    """The criterion of this name.

    Raises:
        CriterionError: There is none.
    """
    try:
        return CRITERIA[name]
    except KeyError:
        raise CriterionError(f"criterion {name!r} does not exist; there is: {', '.join(CRITERIA)}") from None
