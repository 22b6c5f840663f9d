"""What the service needs of a running engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from service.routing.policy import MaskVersion


class Engine(Protocol):
    """What the service needs of a running engine (`service.engine.residency.Residency`)."""

    @property
    def dead(self) -> bool:
        """Whether the engine has ended by itself and will not answer again."""

    def expect_end(self, *, at_once: bool = False) -> None:
        """The engine will be stopped, and has not died then.

        Args:
            at_once: without a second to do it well.
        """

    async def ensure(self, version: MaskVersion, *, retry: bool = False) -> str:
        """Make a mask usable; return the name under which the engine's handlers know it.

        Args:
            version: of the mask.
            retry: even if it was refused a moment ago.
        """

    async def judge(self, context: Sequence[int], said: Sequence[int]) -> float:
        """Mean log-probability, nats a token, that the uncorrected model gives to `said` after `context`.

        Token ids. Comes after everything that somebody waits for; may take long.
        """

    async def check_health(self) -> None:
        """Raise if the engine is dead."""

    async def measure(self) -> None:
        """Bring the metrics of residency up to date."""
