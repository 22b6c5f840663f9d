"""Sufficient statistics: what the tests need to know of any number of responses, as sums that can be added up."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from service.storage.tables import FLOATS

LATENCY_EDGES: tuple[float, ...] = tuple(round(0.01 * 12_000 ** (bucket / 95), 6) for bucket in range(96))
"""Seconds, 0.01 … 120, each 10% above the one before, for a quantile is known to within a bucket. Bucket `i` of a
histogram holds `edges[i-1] < s <= edges[i]`; a last one, `len(LATENCY_EDGES)`, all that took longer."""

LONGEST_NAME = 64
MOST_TOKENS = 10_000_000
"""Bounds of the database's columns: characters of an experiment's or variant's name; tokens whose squares still add up
in 64 bits."""


@dataclass(frozen=True)
class Totals:
    """Sums over some responses. `Totals()` is zero; `a + b` are those over both."""

    responses: int = 0
    """Finished."""
    errors: int = 0
    """Requests that failed, which are no responses: the error rate is `errors / (responses + errors)`."""
    truncated: int = 0
    """Stopped by the limit on their length."""
    tokens: int = 0
    tokens_squared: int = 0
    """Sums over responses of their length in tokens, and of its square."""
    seconds: float = 0.0
    seconds_squared: float = 0.0
    scored: int = 0
    """Those of `responses` whose text was scored; the next three are of these."""
    toxic: int = 0
    repetitive: int = 0
    refusals: int = 0
    anonymous: int = 0
    """Responses and failed requests that named no user in an experiment by user: in no test."""
    judged: int = 0
    """Responses of known coherence, a sample."""
    coherence: float = 0.0
    coherence_squared: float = 0.0
    """Sums over them of the mean log-probability a token under the base model, in nats, and of its square."""
    rated: int = 0
    """Responses that somebody gave feedback on."""
    feedback: float = 0.0
    feedback_squared: float = 0.0
    """Sums over them of that number, −1 to 1, and of its square."""
    latency: tuple[int, ...] = (0,) * (len(LATENCY_EDGES) + 1)
    """Responses by seconds, see `LATENCY_EDGES`."""

    def __add__(self, other: Totals) -> Totals:
        return Totals.of([one + another for one, another in zip(self.numbers(), other.numbers(), strict=True)])

    def numbers(self) -> list[float]:
        """As a row of the database: the sums in the order of their fields, then the histogram."""
        return [*(getattr(self, name) for name in SUMS), *self.latency]

    @staticmethod
    def of(numbers: Sequence[float]) -> Totals:
        """Back from `numbers()`, whose numbers may be of any type that a database answers with."""
        sums = {name: float(n) if name in FLOATS else int(n) for name, n in zip(SUMS, numbers, strict=False)}
        return Totals(**sums, latency=tuple(int(n) for n in numbers[len(SUMS) :]))  # type: ignore[arg-type]


SUMS: tuple[str, ...] = tuple(field.name for field in fields(Totals) if field.name != "latency")
"""Names of the fields of `Totals` that are one number, in order."""


@dataclass(frozen=True)
class Origin:
    """Where a response belongs in an experiment.

    Raises:
        ValueError: no database could keep a name.
    """

    experiment: str
    epoch: int
    variant: str
    unit: str
    """The unit's key, a user or a request; only a hash of it is stored."""
    counted: bool
    """It may stand for its unit in the tests: the first of several choices, on the right side of a mirror's coin."""
    by_user: bool
    """The unit may come again, so that only the database knows whether this is its first."""

    def __post_init__(self) -> None:
        # One row that the database refuses would hold up every other, of every experiment, second after second.
        if len(self.experiment) > LONGEST_NAME or len(self.variant) > LONGEST_NAME:
            raise ValueError(
                f"outcome of {self.experiment!r}, {self.variant!r}: a name has over {LONGEST_NAME} characters"
            )


@dataclass(frozen=True)
class Outcome(Origin):
    """One response, or one failed request, in an experiment.

    Raises:
        ValueError: no database could keep it.
    """

    error: bool = False
    truncated: bool = False
    tokens: int = 0
    seconds: float = 0.0
    toxic: bool | None = None
    """None: not scored; the next two then mean nothing."""
    repetitive: bool = False
    refusal: bool = False
    anonymous: bool = False
    """It named no user in an experiment by user, so it stands for nobody."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.tokens <= MOST_TOKENS:
            raise ValueError(f"outcome of {self.variant!r}: {self.tokens} tokens; 0 to {MOST_TOKENS} can be kept")
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ValueError(f"outcome of {self.variant!r}: {self.seconds} seconds is no duration")

    def count_in(self, numbers: list[float]) -> None:
        """Add this response to a row, in place; `numbers` as in `Totals.numbers`."""
        numbers[_ANONYMOUS] += bool(self.anonymous)
        if self.error:
            numbers[_ERRORS] += 1
            return
        numbers[_RESPONSES] += 1
        tokens, seconds = int(self.tokens), float(self.seconds)  # NumPy's numbers would be stored as bytes
        numbers[_TRUNCATED] += bool(self.truncated)
        numbers[_TOKENS] += tokens
        numbers[_TOKENS_SQUARED] += tokens * tokens
        numbers[_SECONDS] += seconds
        numbers[_SECONDS_SQUARED] += seconds * seconds
        if self.toxic is not None:
            numbers[_SCORED] += 1
            numbers[_TOXIC] += bool(self.toxic)
            numbers[_REPETITIVE] += bool(self.repetitive)
            numbers[_REFUSALS] += bool(self.refusal)
        numbers[len(SUMS) + bisect_left(LATENCY_EDGES, seconds)] += 1


_RESPONSES, _ERRORS, _TRUNCATED, _TOKENS, _TOKENS_SQUARED, _SECONDS, _SECONDS_SQUARED = range(7)
_SCORED, _TOXIC, _REPETITIVE, _REFUSALS, _ANONYMOUS = range(7, 12)

Later = Literal["coherence", "feedback"]
_PLACES: dict[Later, int] = {"coherence": SUMS.index("judged"), "feedback": SUMS.index("rated")}
_RANGES: dict[Later, tuple[float, float]] = {"coherence": (-1e4, 0.0), "feedback": (-1.0, 1.0)}


@dataclass(frozen=True)
class Value(Origin):
    """A number that becomes known of a response after it was counted: its coherence, or feedback on it.

    Of each kind, the first of a unit stands for it in the tests.

    Raises:
        ValueError: it is out of range.
    """

    what: Later
    value: float

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = _RANGES[self.what]
        if not low <= self.value <= high:
            raise ValueError(f"{self.what} of {self.variant!r} is {self.value}; it lies between {low:g} and {high:g}")

    def count_in(self, numbers: list[float]) -> None:
        """Add it to a row, in place."""
        place, value = _PLACES[self.what], float(self.value)
        numbers[place] += 1
        numbers[place + 1] += value
        numbers[place + 2] += value * value


@dataclass(frozen=True)
class Tally:
    """What a report reads of one variant in one epoch."""

    epoch: int
    variant: str
    all: Totals
    """Every response."""
    units: Totals
    """One response a unit, its first: what the tests are made of."""
