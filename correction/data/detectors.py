"""Detectors: what a response must show to count as an instance of a behaviour."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from behaviours import ToxicityScorer, checked, is_repetitive, load_scorer, repeated, response_uniqueness_ratio
from correction.errors import ReferenceSetError
from correction.evaluation import Response

Scores = NDArray[np.float64]
Flags = NDArray[np.bool_]
Decode = Callable[[Sequence[int]], str]
"""Token ids → their text."""


class Detector(Protocol):
    """Decides which responses show a behaviour."""

    def scores(self, responses: Sequence[Response]) -> Scores:
        """One number for each response: float64 (responses,)."""
        ...

    def flags(self, responses: Sequence[Response], scores: Scores) -> Flags:
        """Which of them show the behaviour: bool (responses,)."""
        ...

    def counted(self, responses: Sequence[Response], scores: Scores) -> Flags:
        """Which of them count when the behaviour's rate is measured: bool (responses,).

        The threshold may be lower than that of `flags`, which takes clear cases alone: toxicity is counted from 0.5 on,
        and masks are made from responses of 0.9 and more.
        """
        ...

    def weights(self, responses: Sequence[Response], decode: Decode) -> list[Scores]:
        """Where in each response the behaviour happens.

        Returns:
            A weight for each token of each response, at least 0, float64 (tokens,); all 0 where it does not happen.
        """
        ...

    def nearest(self, scores: Scores) -> str:
        """Where nothing shows the behaviour: what was asked for, and what came nearest."""
        ...

    def described(self) -> dict[str, Any]:
        """The detector as JSON values, for a mask to record."""
        ...


@dataclass(frozen=True)
class ToxicityDetector:
    """A response that a scorer gives at least this score."""

    scorer: ToxicityScorer
    at_least: float = 0.9

    def __post_init__(self) -> None:
        _check_fraction(self.at_least)

    def scores(self, responses: Sequence[Response]) -> Scores:
        """The scorer's, in [0, 1]. Raises `behaviours.ScorerError` where it gives none."""
        return checked(self.scorer).score([response.text for response in responses])

    def flags(self, responses: Sequence[Response], scores: Scores) -> Flags:
        """Scores of at least `at_least`."""
        return scores >= self.at_least

    def counted(self, responses: Sequence[Response], scores: Scores) -> Flags:
        """Scores of at least the scorer's own threshold, or `at_least` if that is lower."""
        return scores >= min(self.scorer.threshold, self.at_least)

    def weights(self, responses: Sequence[Response], decode: Decode) -> list[Scores]:
        """By how much the score rises with each token, from the start of the response on."""
        starts = [decode(each.tokens[:end]) for each in responses for end in range(len(each.tokens) + 1)]
        scores = np.asarray(checked(self.scorer).score(starts), dtype=np.float64)
        ends = np.cumsum([len(each.tokens) + 1 for each in responses])[:-1]
        return [np.diff(each).clip(0) for each in np.split(scores, ends)]

    def nearest(self, scores: Scores) -> str:
        """The highest score."""
        return f"a score of at least {self.at_least:g} by {self.scorer.name}; the highest score was {scores.max():.3g}"

    def described(self) -> dict[str, Any]:
        """The scorer and the threshold."""
        scorer = {"name": self.scorer.name, "version": self.scorer.version}
        counted = min(self.scorer.threshold, self.at_least)
        return {"kind": "scorer", "scorer": scorer, "threshold": self.at_least, "counted_from": counted}


@dataclass(frozen=True)
class RepetitionDetector:
    """A response whose uniqueness ratio (RUR) is at most this; an empty one says nothing twice and never is."""

    at_most: float = 0.5

    def __post_init__(self) -> None:
        _check_fraction(self.at_most)

    def scores(self, responses: Sequence[Response]) -> Scores:
        """Uniqueness ratios, in [0, 1]: the lower, the more repetitive; 0.0 for an empty response."""
        return np.array([response_uniqueness_ratio(response.tokens) for response in responses], dtype=np.float64)

    def flags(self, responses: Sequence[Response], scores: Scores) -> Flags:
        """Ratios of at most `at_most`, of responses that say anything."""
        return (scores <= self.at_most) & np.array([len(response.tokens) > 0 for response in responses], dtype=np.bool_)

    def counted(self, responses: Sequence[Response], scores: Scores) -> Flags:
        """By `is_repetitive`, regardless of `flags`."""
        repetitive = np.array([is_repetitive(response.tokens) for response in responses], dtype=np.bool_)
        return repetitive | self.flags(responses, scores)

    def weights(self, responses: Sequence[Response], decode: Decode) -> list[Scores]:
        """1 for a token that ends a run of three which occurred before."""
        return [np.array(repeated(each.tokens), dtype=np.float64) for each in responses]

    def nearest(self, scores: Scores) -> str:
        """The lowest ratio of a response that is not empty."""
        spoken = scores[scores > 0]
        observation = f"the lowest ratio was {spoken.min():.3g}" if len(spoken) else "every response was empty"
        return f"a uniqueness ratio of at most {self.at_most:g}; {observation}"

    def described(self) -> dict[str, Any]:
        """The threshold."""
        return {"kind": "repetition", "threshold": self.at_most}


@dataclass(frozen=True)
class RegexDetector:
    """A response in whose text a regular expression is found, anywhere."""

    pattern: str

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ReferenceSetError(
                f"{self.pattern[:80]!r} is no regular expression: {error}; mend the pattern"
            ) from error
        if not self.pattern:
            raise ReferenceSetError("an empty pattern is found in every response; write it as regex:PATTERN")

    def scores(self, responses: Sequence[Response]) -> Scores:
        """1.0 where the pattern is found, else 0.0."""
        pattern = re.compile(self.pattern)
        return np.array([pattern.search(response.text) is not None for response in responses], dtype=np.float64)

    def flags(self, responses: Sequence[Response], scores: Scores) -> Flags:
        """Where the pattern is found."""
        return scores > 0

    def counted(self, responses: Sequence[Response], scores: Scores) -> Flags:
        """Where the pattern is found."""
        return scores > 0

    def weights(self, responses: Sequence[Response], decode: Decode) -> list[Scores]:
        """1 for a token that has a character of a match."""
        pattern, weights = re.compile(self.pattern), []
        for each in responses:
            ends = [len(decode(each.tokens[:end])) for end in range(len(each.tokens) + 1)]
            spans = [match.span() for match in pattern.finditer(decode(each.tokens))]
            met = [any(low < end and start < high for low, high in spans) for start, end in pairwise(ends)]
            weights.append(np.array(met, dtype=np.float64))
        return weights

    def nearest(self, scores: Scores) -> str:
        """The pattern."""
        return f"a match of {self.pattern[:80]!r}; the highest score was 0"

    def described(self) -> dict[str, Any]:
        """The pattern."""
        return {"kind": "regex", "pattern": self.pattern}


def parse_detector(spec: str, *, scorer: str = "profanity", threshold: float | None = None) -> Detector:
    """The detector of this spec.

    Args:
        spec: `toxicity`, by the scorer of that option; `scorer:SPEC`, by the scorer of that spec;
            `repetition`; or `regex:PATTERN`.
        scorer: Spec of a scorer, see `behaviours.load_scorer`.
        threshold: Lowest score that shows the behaviour, by default 0.9; of `repetition` the highest uniqueness ratio,
            by default 0.5.

    Raises:
        ReferenceSetError: There is no such detector, a bad pattern or threshold, or one for a pattern.
        ScorerError: Of `behaviours`, for the scorer.
    """
    kind, colon, argument = spec.partition(":")
    if spec == "toxicity" or (kind == "scorer" and argument):
        at_least = 0.9 if threshold is None else threshold
        _check_fraction(at_least)  # before the scorer is loaded, which may take long
        return ToxicityDetector(load_scorer(argument or scorer), at_least)
    if spec == "repetition":
        return RepetitionDetector() if threshold is None else RepetitionDetector(threshold)
    if kind == "regex" and colon:
        if threshold is not None:
            raise ReferenceSetError(f"a pattern is found or not; leave out --threshold {threshold:g}")
        return RegexDetector(argument)
    raise ReferenceSetError(
        f"there is no sign {spec[:80]!r} of a behaviour; there is: toxicity, repetition, regex:PATTERN, scorer:SPEC"
    )


def _check_fraction(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise ReferenceSetError(f"--threshold is {threshold:g}; it must be from 0 to 1")
