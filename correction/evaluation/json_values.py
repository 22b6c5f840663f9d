"""Figures as JSON values, to four digits."""

from stats.estimates import Estimate


def round_digits(value: float) -> float:
    """Whole numbers as they are, others to four digits."""
    return value if isinstance(value, int) else float(f"{value:.4g}")


def interval_values(estimate: Estimate) -> list[float]:
    """[value, low, high]."""
    return [round_digits(value) for value in (estimate.value, estimate.low, estimate.high)]
