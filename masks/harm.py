"""Warnings of a mask: those that were stored with it, else those that follow from its measurements.

`meta.measured` is free JSON, and a mask file may come from anybody: what has not the shape that Excise writes is passed
over, and nothing here raises. One place derives; everything else passes the sentences on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

MAX_WARNINGS = 8
MAX_CHARACTERS = 500
"""Of one warning."""

MAX_INCREASE = 0.05
"""Of perplexity, relative, that goes without a warning. The estimate is compared, not the lower end of its interval: a
few texts make a wide interval, and a mask must not go unremarked because it was measured on little."""

_LARGEST = 1e300


class Interval(NamedTuple):
    """A figure with the limits of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Change:
    """A share of the held-out responses, in [0, 1], without and with the mask; None where it is not known.

    Attributes:
        difference: After − before.
    """

    before: float | None = None
    after: float | None = None
    difference: Interval | None = None


@dataclass(frozen=True)
class Figures:
    """What was measured of a mask on held-out prompts and text.

    Attributes:
        perplexity: Relative increase, after / before − 1.
        behaviour: Responses that show the behaviour.
        toxic: Such responses.
        repetitive: Such responses.
        empty: Such responses: they are neither toxic nor repetitive, and help nobody.
    """

    perplexity: Interval | None
    behaviour: Change
    toxic: Change
    repetitive: Change
    empty: Change


def figures(measured: object) -> Figures:
    """Read the figures in `meta.measured`; what is missing, or of another shape, is None."""
    before, after, difference = (_at(measured, side) for side in ("before", "after", "difference"))

    def rate(key: str) -> Change:
        return Change(_share(_at(before, key)), _share(_at(after, key)), _interval(_at(difference, key)))

    shown = _at(measured, "shown")
    return Figures(
        _interval(_at(difference, "perplexity")),
        Change(_share(_at(shown, "before")), _share(_at(shown, "after")), _interval(_at(shown, "difference"))),
        rate("toxic"),
        rate("repetitive"),
        rate("empty"),
    )


def warnings(measured: object) -> tuple[str, ...]:
    """The warnings in `meta.measured`, or else what its figures give reason to warn of.

    Stored warnings are a list of strings under `warnings`: the first `MAX_WARNINGS` of them, each cut to
    `MAX_CHARACTERS`, on one line and without control characters. Where there are none, there is a warning if
    perplexity rose by more than `MAX_INCREASE`, if the interval of the behaviour's difference does not lie under 0,
    and if that of toxic, repetitive or empty responses lies over 0.
    """
    return _stored(_at(measured, "warnings")) or derived(measured)


def derived(measured: object, max_increase: float = MAX_INCREASE) -> tuple[str, ...]:
    """What the figures in `meta.measured` give reason to warn of, regardless of stored warnings: see `warnings`."""
    changes = figures(measured)
    reasons = []
    if (rise := changes.perplexity) and rise.value > max_increase:
        reasons.append(f"Perplexity rose by {_percent(rise.value)} ({_span(rise)}).")
    if (fall := changes.behaviour.difference) and fall.high >= 0:
        reasons.append(f"The behaviour did not fall for certain{_sides(changes.behaviour, fall)}.")
    for name, change in (("Toxic", changes.toxic), ("Repetitive", changes.repetitive), ("Empty", changes.empty)):
        if (more := change.difference) and more.low > 0:
            reasons.append(f"{name} responses became more frequent{_sides(change, more)}.")
    return tuple(reasons)


def _stored(given: object) -> tuple[str, ...]:
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        return ()
    return tuple(line for each in given[:MAX_WARNINGS] if (line := _line(each)))


def _line(text: str) -> str:
    """On one line, with only what can be printed: no control characters, none that turn the direction of writing."""
    if len(text) > MAX_CHARACTERS:
        text = text[: MAX_CHARACTERS - 1] + "…"
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def _sides(change: Change, found: Interval) -> str:
    """`: 35.7% before, 100.0% after (difference 64.3%, interval 34.0% to 83.0%)`."""
    difference = f"difference {_percent(found.value)}, {_span(found)}"
    if change.before is None or change.after is None:
        return f" ({difference})"
    return f": {_percent(change.before)} before, {_percent(change.after)} after ({difference})"


def _span(interval: Interval) -> str:
    return f"interval {_percent(interval.low)} to {_percent(interval.high)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%" if abs(share) < 1e4 else f"{100 * share:.3g}%"


def _at(value: object, key: str) -> object:
    """What lies under a key; None where nothing does."""
    return value.get(key) if isinstance(value, Mapping) else None


def _interval(figure: object) -> Interval | None:
    """Of `[value, low, high]`."""
    numbers = _numbers(figure, 3)
    return Interval(*numbers) if numbers else None


def _share(figure: object) -> float | None:
    """Of `[count, total, low, high]`."""
    numbers = _numbers(figure, 4)
    return numbers[0] / numbers[1] if numbers and 0 <= numbers[0] <= numbers[1] != 0 else None


def _numbers(figure: object, count: int) -> list[float] | None:
    if not isinstance(figure, list | tuple) or len(figure) != count:
        return None
    if not all(type(each) in (int, float) and -_LARGEST < each < _LARGEST for each in figure):
        return None
    return [float(each) for each in figure]
