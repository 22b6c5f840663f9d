"""Labels: how many values a label in the metrics may take."""

from __future__ import annotations

OTHER = "other"
"""The label of everything for which there is no room."""


class Labels:
    """Values of a label in the metrics, at most `limit` of them beside `base`: the first to come.

    Every label is a time series for as long as the server lives, so their number must not grow with what clients do.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def of(self, label: str) -> str:
        """The label itself, or `other` where there is no more room."""
        if label == "base" or label in self._known:
            return label
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(label)
        return label

    def forget(self, label: str) -> None:
        """Give a label's room back: its mask is gone."""
        self._known.discard(label)
