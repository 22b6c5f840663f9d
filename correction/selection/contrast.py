"""Contrast: what matters for the behaviour and little for everything else."""

from dataclasses import replace
from typing import get_args

import torch

from correction.attribution.relevance import Relevance
from correction.choices import Contrast
from correction.errors import CriterionError

_FLOOR = 0.1


def contrast(general: Relevance | None, behaviour: Relevance | None, kind: Contrast) -> Relevance:
    """What is to be cut in ascending order.

    Args:
        general: R̄_general, or for the kind `cost` the cost of `criteria.cost` on the general set;
            None where `kind` is `behaviour`.
        behaviour: R̄_behaviour; None where `kind` is `general`.
        kind: `cost`: −R̄_behaviour / (cost + ε): what a cut does against the behaviour for what it costs the general
            text. To cut in the order of gain per cost is the best way to spend a budget, as far as gains and costs add
            up (Dantzig 1957). ε is a tenth of the mean cost, so that no cost is taken for nothing.
            `difference`: R̄_general − R̄_behaviour (SparC³, Eq. 7).
            `normalised`: the same after each has been divided by its mean magnitude, so that a set whose outputs are
            surer does not weigh more.
            `general`: R̄_general alone, for compression, or for criteria that read no data.
            `behaviour`: −R̄_behaviour: what matters most for the behaviour, regardless of anything else. The top-down
            attack of Wei et al. 2024, and a baseline.

    Raises:
        CriterionError: The two do not score the same components, or are needed and not there.
    """
    if kind not in get_args(Contrast):
        raise CriterionError(f"contrast {kind!r} does not exist; there is: {', '.join(get_args(Contrast))}")
    if kind == "general" and general is not None:
        return general
    if behaviour is None:
        raise CriterionError(f"the contrast {kind!r} needs the relevance for a behaviour set")
    if kind == "behaviour":
        return replace(behaviour, scores={name: -score for name, score in behaviour.scores.items()})
    if general is None:
        raise CriterionError(f"the contrast {kind!r} needs the relevance for a general set")
    check_same_components(general, behaviour)
    pairs = {name: (score, behaviour.scores[name]) for name, score in general.scores.items()}
    if kind == "difference":
        scores = {name: a - b for name, (a, b) in pairs.items()}
    elif kind == "normalised":
        sizes = _magnitude(general), _magnitude(behaviour)
        scores = {name: a / sizes[0] - b / sizes[1] for name, (a, b) in pairs.items()}
    else:
        floor = _FLOOR * _magnitude(general)
        scores = {name: -b / (a + floor) for name, (a, b) in pairs.items()}
    return Relevance(general.granularity, scores, general.samples + behaviour.samples)


def check_same_components(one: Relevance, other: Relevance) -> None:
    """Refuse two that do not score the same components. Raises CriterionError."""
    shapes = [{name: tuple(score.shape) for name, score in relevance.scores.items()} for relevance in (one, other)]
    if one.granularity != other.granularity or shapes[0] != shapes[1]:
        raise CriterionError("the two sets were scored for other components, and cannot be compared")


def _magnitude(relevance: Relevance) -> float:
    """Mean |R| over all components; 1 where there is none at all."""
    total = sum(float(score.abs().sum(dtype=torch.float64)) for score in relevance.scores.values())
    return total / len(relevance) or 1.0
