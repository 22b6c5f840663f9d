"""Moments as text: ISO 8601 in UTC, to the millisecond, in answers and in the log."""

from __future__ import annotations

from datetime import UTC, datetime


def iso_text(seconds: float) -> str:
    """`seconds` since 1970 as `2026-11-27T15:45:02.123Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
