"""Variants side by side: what each one does, as a table for the terminal and as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from correction.evaluation import Evaluation
from stats.estimates import Rate


@dataclass(frozen=True)
class Row:
    """One variant: rates in [0, 1] with the limits of their intervals, the perplexity, and the number of responses.

    None where it was not measured.
    """

    variant: str
    toxicity: float | None = None
    toxicity_low: float | None = None
    toxicity_high: float | None = None
    repetition: float | None = None
    repetition_low: float | None = None
    repetition_high: float | None = None
    perplexity: float | None = None
    n: int = 0


def row(variant: str, evaluation: Evaluation) -> Row:
    """The row of an evaluation."""
    toxic, repetitive = evaluation.toxicity, evaluation.repetition
    rates = (*_limits(toxic.rate if toxic else None), *_limits(repetitive.rate if repetitive else None))
    perplexity = evaluation.perplexity.estimate.value if evaluation.perplexity else None
    return Row(variant, *rates, perplexity, len(evaluation.responses))


def table(rows: Sequence[Row], title: str = "", confidence: float = 0.95) -> Table:
    """A Rich table: rates in percent with their intervals, perplexity with its change against the first row."""
    interval = f"{confidence:.0%} interval"
    shown = Table(title=title or None)
    shown.add_column("variant")
    for heading in (f"toxic ({interval})", f"repetitive ({interval})", "perplexity", "responses"):
        shown.add_column(heading, justify="right")
    for each in rows:
        shown.add_row(
            each.variant,
            _percent(each.toxicity, each.toxicity_low, each.toxicity_high),
            _percent(each.repetition, each.repetition_low, each.repetition_high),
            _change(each.perplexity, rows[0].perplexity, first=each is rows[0]),
            str(each.n),
        )
    return shown


def picture(rows: Sequence[Row], path: str | Path, title: str = "") -> None:
    """A PNG of the same rows: toxicity, repetition and perplexity by variant, rates with their intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [
        (
            "toxic responses, %",
            [(_scaled(r.toxicity), _scaled(r.toxicity_low), _scaled(r.toxicity_high)) for r in rows],
        ),
        (
            "repetitive responses, %",
            [(_scaled(r.repetition), _scaled(r.repetition_low), _scaled(r.repetition_high)) for r in rows],
        ),
        ("perplexity", [(r.perplexity, r.perplexity, r.perplexity) for r in rows]),
    ]
    panels = [(label, values) for label, values in panels if any(value is not None for value, _, _ in values)]
    names = [r.variant for r in rows]
    figure = Figure(figsize=(3.4 * max(1, len(panels)), 3.6), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    for place, (label, values) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), place)
        for x, (value, low, high) in enumerate(values):
            if value is not None:
                below, above = value - (value if low is None else low), (value if high is None else high) - value
                axes.bar(x, value, color=f"C{x % 10}", alpha=0.85)
                axes.errorbar(x, value, yerr=[[max(0.0, below)], [max(0.0, above)]], color="black", capsize=3)
                axes.annotate(f"{value:.3g}", (x, value + max(0.0, above)), ha="center", va="bottom", fontsize=8)
        axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
        axes.set_title(label, fontsize=10)
        axes.margins(y=0.12)
        axes.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(title)
    figure.savefig(path, format="png")


def _limits(rate: Rate | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if rate is None else (rate.value, rate.low, rate.high)


def _scaled(rate: float | None) -> float | None:
    return None if rate is None else 100 * rate


def _percent(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "–"
    limits = "" if low is None or high is None else f" ({low:.1%} to {high:.1%})"
    return f"{value:.1%}{limits}"


def _change(value: float | None, base: float | None, *, first: bool) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if first or base is None else f"{value:.3f} ({value / base - 1:+.2%})"
