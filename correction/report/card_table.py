"""The quality card as a table for the terminal."""

from collections.abc import Sequence

from rich.table import Table

from correction.evaluation.noninferiority import Statement

_COLOURS = {"yes": "green", "no": "red", "not shown": "yellow"}


def card(statements: Sequence[Statement], mask: str, confidence: float = 0.95) -> Table:
    """A row for each statement: the figures, their paired difference, and whether it stays within the margin."""
    shown = Table()
    shown.add_column("measure", no_wrap=True)
    for heading in ("base", mask, f"difference ({confidence:.0%} interval)", "not worse by more than"):
        shown.add_column(heading, justify="right")
    for each in statements:
        estimate = each.difference
        difference, low, high = (_figure(value, each, "+") for value in (estimate.value, estimate.low, estimate.high))
        sign = {"higher": "+", "lower": "-", "either": "±"}[each.worse]
        shown.add_row(
            each.measure,
            f"{each.before:.4g}",
            f"{each.after:.4g}",
            f"{difference} [{low}, {high}]",
            f"{sign}{_figure(each.margin, each)}: {each.not_worse}",
            style=_COLOURS[each.not_worse],
        )
    return shown


def _figure(value: float, statement: Statement, sign: str = "") -> str:
    """Relative differences in percent, others as they are."""
    return f"{value:{sign}.2%}" if statement.relative else f"{value:{sign}.3f}"
