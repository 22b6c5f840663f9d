"""A circuit breaker: who fails again and again is left alone for a while, then tried once."""

from __future__ import annotations

import time
from collections.abc import Callable

from service import metrics

FAILURES = 3
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0


class CircuitBreaker:
    """Closed: all goes on. After some failures in a row it opens for a pause; then one trial decides.

    A trial that fails opens it again, for twice the pause; one that works closes it.
    """

    def __init__(
        self,
        failures: int = FAILURES,
        first: float = FIRST_PAUSE,
        longest: float = LONGEST_PAUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Closed at first.

        Args:
            failures: so many in a row open it.
            first: seconds of its first pause.
            longest: seconds of its longest pause.
            clock: seconds, monotonic.
        """
        self._limit, self._first, self._longest, self._clock = failures, first, longest, clock
        self._failures = 0
        self._pause = 0.0
        self._until = 0.0
        self._trial = False
        metrics.CIRCUIT_OPEN.set(0)

    @property
    def open(self) -> bool:
        """Whether it is, trials included."""
        return self._pause > 0

    @property
    def pause(self) -> float:
        """Seconds of the present pause; 0 where it is closed."""
        return self._pause

    def allows(self) -> bool:
        """Whether to go on now. While it is open, it is True once a pause: for the trial."""
        if not self.open:
            return True
        if self._clock() < self._until:
            return False
        self._trial = True
        self._until = self._clock() + self._pause  # should the trial never tell, there is another
        return True

    def worked(self) -> None:
        """It worked: close."""
        self._failures, self._pause, self._trial = 0, 0.0, False
        metrics.CIRCUIT_OPEN.set(0)

    def failed(self) -> None:
        """It failed."""
        self._failures += 1
        if self.open and not self._trial:
            return  # another attempt that began before it opened
        if self.open or self._failures >= self._limit:
            self._pause = min(self._longest, 2 * self._pause or self._first)
            self._until = self._clock() + self._pause
            self._trial = False
            metrics.CIRCUIT_OPEN.set(1)
