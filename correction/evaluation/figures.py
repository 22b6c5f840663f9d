"""Figures as JSON values, to four digits."""

from correction.evaluation.bootstrap import Estimate


def rounded(value: float) -> float:
    """Whole numbers as they are, others to four digits."""
    return value if isinstance(value, int) else float(f"{value:.4g}")


def shown(estimate: Estimate) -> list[float]:
    """[value, low, high]."""
    return [rounded(value) for value in (estimate.value, estimate.low, estimate.high)]
