"""Contrast: what matters for the behaviour and little for everything else."""

from correction.errors import CriterionError
from correction.relevance import Relevance


def contrast(general: Relevance, behaviour: Relevance) -> Relevance:
    """R_diff = R̄_general − R̄_behaviour (SparC³, Eq. 7), to be cut in ascending order.

    Raises:
        CriterionError: the two do not score the same components.
    """
    shapes = [{name: tuple(score.shape) for name, score in each.scores.items()} for each in (general, behaviour)]
    if general.granularity != behaviour.granularity or shapes[0] != shapes[1]:
        raise CriterionError("the relevance for the general set and for the behaviour set are of other components")
    scores = {name: score - behaviour.scores[name] for name, score in general.scores.items()}
    return Relevance(general.granularity, scores, general.samples + behaviour.samples)
