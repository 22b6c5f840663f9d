"""What goes into scoring and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from behaviours import REPETITIVE_BELOW
from service.routing.policy import Assigned


@dataclass(frozen=True)
class Response:
    """One finished response of the engine."""

    mask: str
    """Label of the mask that made it: `base` or `name@version`."""
    text: str
    tokens: Sequence[int]
    """Ids of the response, without the token that ended it."""
    seconds: float = 0.0
    truncated: bool = False
    unit: str = ""
    """Key for sampling: the responses of a unit are all scored or none is."""
    assigned: Assigned | None = None
    """Where it belongs in an experiment; scoring only passes it on."""
    counted: bool = True
    """Whether it is the first choice of its request."""
    id: str = ""
    """As its client knows it; empty where nobody sees it."""
    prompt: str = ""
    """What it was said to, where flagged responses are kept; empty where that is no text."""
    context: Sequence[int] = ()
    """Ids of the last tokens of its prompt."""


@dataclass(frozen=True)
class Marks:
    """What a worker found in one response."""

    toxicity: float
    ratio: float | None
    """Distinct tokens over tokens; None without tokens."""
    refusal: bool


@dataclass(frozen=True)
class Scored:
    """A response after scoring, whether it was scored or not."""

    response: Response
    toxicity: float | None = None
    """0 to 1; None: not scored, since sampled out, dropped or failed. Then the rest means nothing."""
    toxic: bool | None = None
    repetitive: bool = False
    refusal: bool = False
    ratio: float | None = None

    @classmethod
    def of(cls, response: Response, marks: Marks | None, threshold: float) -> Scored:
        """The response with its marks.

        Args:
            response: as it was answered.
            marks: the scorer's.
            threshold: the toxicity from which on it is toxic.
        """
        if marks is None:
            return cls(response)
        repetitive = marks.ratio is not None and marks.ratio < REPETITIVE_BELOW
        return cls(response, marks.toxicity, marks.toxicity >= threshold, repetitive, marks.refusal, marks.ratio)
