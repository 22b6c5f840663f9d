"""What a scorer is, and the one check that every scorer's scores go through."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-6
"""How far outside [0, 1] a probability may lie that was computed in float32."""


class ScorerError(ValueError):
    """A scorer that does not exist, cannot be made, does not answer, or returns no probabilities."""


class ScorerUnavailableError(ScorerError):
    """A scorer that no text would have a score from now, whichever it is: its server is gone, or refuses everybody."""


@runtime_checkable
class ToxicityScorer(Protocol):
    """What evaluation and the service ask of a scorer; name, version and threshold go into every result.

    It may score any behaviour that a text alone shows; toxicity is the one it is named after. A text shows the
    behaviour where its score is at least `threshold`.

    A scorer that takes long for each text may have an attribute `batch`: the service gives it no more texts than that
    in one call.
    """

    @property
    def name(self) -> str:
        """What it is, and with which choices, such as the model and the label. Never a secret."""
        ...

    @property
    def version(self) -> str:
        """Which of its versions made the scores."""
        ...

    @property
    def threshold(self) -> float:
        """The score from which on a text shows the behaviour, in [0, 1]."""
        ...

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Probability of the behaviour in each text: float64 in [0, 1], shape (len(texts),)."""
        ...


class CheckedScorer:
    """A scorer whose scores are checked, whoever wrote it; made by `checked`."""

    def __init__(self, scorer: ToxicityScorer) -> None:
        self._scorer = scorer

    @property
    def name(self) -> str:
        """The scorer's own."""
        return self._scorer.name

    @property
    def version(self) -> str:
        """The scorer's own."""
        return self._scorer.version

    @property
    def threshold(self) -> float:
        """The scorer's own."""
        return float(self._scorer.threshold)

    @property
    def batch(self) -> int | None:
        """Most texts for one call, where the scorer's own says so."""
        batch_size = getattr(self._scorer, "batch", None)
        return batch_size if isinstance(batch_size, int) and batch_size > 0 else None

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The scorer's own scores: float64 in [0, 1], shape (len(texts),). It is not asked where there are no texts.

        Raises:
            ScorerError: It returned another shape, or something that is no number from 0 to 1.
        """
        if not len(texts):
            return np.zeros(0, dtype=np.float64)
        returned: Any = self._scorer.score(texts)
        try:
            scores = np.asarray(returned, dtype=np.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ScorerError(f"the scorer {self.name!r} returned no array of numbers: {error}") from error
        if scores.shape != (len(texts),):
            raise ScorerError(
                f"the scorer {self.name!r} returned scores of shape {scores.shape} for {len(texts)} texts; "
                "it must return one for each"
            )
        wrong = np.flatnonzero(~((scores >= -_ROUNDING) & (scores <= 1 + _ROUNDING)))  # a nan is wrong too
        if len(wrong):
            place = int(wrong[0])
            raise ScorerError(
                f"the scorer {self.name!r} gave {scores[place]:g} for text {place + 1} of {len(texts)}; "
                "scores must be numbers from 0 to 1"
            )
        return np.clip(scores, 0.0, 1.0)


def checked(scorer: ToxicityScorer) -> CheckedScorer:
    """The scorer, with every score checked; one that is checked already is returned as it is.

    Raises:
        ScorerError: It has no name, version, threshold or `score`, or not of the type that results need.
    """
    if isinstance(scorer, CheckedScorer):
        return scorer
    missing = [field for field in ("name", "version", "threshold", "score") if not hasattr(scorer, field)]
    if missing:
        raise ScorerError(f"this scorer, {_kind(scorer)}, has no {', '.join(missing)}; see behaviours.ToxicityScorer")
    for field in ("name", "version"):
        value = getattr(scorer, field)
        if not isinstance(value, str) or not value:
            raise ScorerError(f"this scorer, {_kind(scorer)}: its {field} is {value!r}, and must be text")
    threshold: Any = scorer.threshold
    if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise ScorerError(f"the scorer {scorer.name!r}: its threshold is {threshold!r}, and must be from 0 to 1")
    if not callable(scorer.score):
        raise ScorerError(f"the scorer {scorer.name!r}: its score is {scorer.score!r}, and must be a method")
    return CheckedScorer(scorer)


def _kind(scorer: object) -> str:
    return f"of type {type(scorer).__name__}"
