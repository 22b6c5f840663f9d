"""Limits of what one caller may ask for: admin calls a minute, and choices of a request."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from service.errors import InvalidRequestError, TooManyRequestsError

_CHOICES = ("n", "best_of")
_INTEGER = TypeAdapter(int)


@dataclass(frozen=True)
class _Bucket:
    """Calls that may come at once, as of a moment in seconds."""

    calls: float
    at: float


class AdminLimit:
    """A token bucket for each admin caller: so many calls at once, filled up again evenly within a minute.

    Each caller has its own, so that a script that runs wild does not keep an operator from rolling back. Only callers
    with a good key are counted: a stranger can use up nobody's calls.
    """

    def __init__(self, calls_per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = calls_per_minute
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, caller: str) -> None:
        """Count one call of `caller` (`access.who`).

        Raises:
            TooManyRequestsError: there were too many in a minute; it says when to come again.
        """
        now = self._clock()
        calls = self._calls(self._buckets.get(caller), now)
        if calls < 1:
            wait = math.ceil((1 - calls) * 60 / self._most)
            raise TooManyRequestsError(
                f"this key made more than {self._most} admin calls a minute (EXCISE_MAX_ADMIN_CALLS); "
                f"come again in {wait} s",
                code="too_many_admin_calls",
                retry_after=wait,
            )
        if caller not in self._buckets:  # those that are full again need not be remembered
            self._buckets = {who: kept for who, kept in self._buckets.items() if self._calls(kept, now) < self._most}
        self._buckets[caller] = _Bucket(calls - 1, now)

    def _calls(self, bucket: _Bucket | None, now: float) -> float:
        if bucket is None:
            return self._most
        return min(self._most, bucket.calls + max(0.0, now - bucket.at) * self._most / 60)


def check_choices(body: Mapping[str, Any], limit: int) -> None:
    """Refuse a request for more than `limit` choices.

    Numbers are read as vLLM reads them, which takes `"16"` and `16.0` for 16. What is no whole number is left to vLLM,
    which answers 400 itself.

    Raises:
        InvalidRequestError: it asks for more.
    """
    for name in _CHOICES:
        try:
            choices = _INTEGER.validate_python(body.get(name))
        except ValidationError:
            continue
        if choices > limit:
            raise InvalidRequestError(
                f"{name!r} asks for more choices than this server gives, which is {limit} (EXCISE_MAX_CHOICES); "
                "send several requests",
                code="too_many_choices",
                param=name,
            )
