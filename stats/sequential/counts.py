"""What the rates' statistics read: events among trials, of two variants, in the epochs of an experiment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Count:
    """`events` among `trials`; raises ValueError unless `0 <= events <= trials`."""

    events: int
    trials: int

    def __post_init__(self) -> None:
        if not 0 <= self.events <= self.trials:
            raise ValueError(f"{self.events} events in {self.trials} trials: events lie between 0 and the trials")

    @property
    def rate(self) -> float:
        """Events a trial; 0 where nothing was tried."""
        return self.events / self.trials if self.trials else 0.0


@dataclass(frozen=True)
class Stratum:
    """The counts of two variants in one epoch, within which neither the weights nor, in expectation, the mix changes.

    `share` is the treatment's designed share among the two, known before the epoch's first response. Statistics stay
    valid when the realised share differs; they lose power when it differs much.
    """

    control: Count
    treatment: Count
    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share {self.share}: the treatment's share of the two lies between 0 and 1")

    def swapped(self) -> Stratum:
        """The same with control and treatment exchanged."""
        return Stratum(self.treatment, self.control, 1 - self.share)


def checked_alpha(alpha: float) -> float:
    """`alpha` itself; raises ValueError unless it lies strictly between 0 and 1."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha {alpha}: the chance of a false alarm lies strictly between 0 and 1")
    return alpha
