"""The chart over time: the metric of each variant, point by point, over every response. No test reads it."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

from service.experiments.report.figure import DRAWING, LIGHT, LONGEST, Look, drawable, scale
from service.experiments.report.report_document import Report
from service.experiments.report.table_cells import whole

_COLOURS = ("#0072b2", "#c25400", "#009e73", "#cc79a7", "#b08900", "#56b4e9")
"""The colour-blind can distinguish them; with more variants the strokes differ too."""
_TICKS = 4
_STROKES = ("-", "--", ":", "-.")


def svg(report: Report) -> bytes:
    """An SVG for a page, on nothing; see `figure.darkened`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    look = LIGHT
    names = [variant["name"] for variant in report["variants"]]
    with DRAWING:
        figure = Figure(figsize=(5.2, 2.4 + 0.17 * ((len(names) + 1) // 2)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for place, name in enumerate(names):
            _line(axes, report, name, place, look)
        _framed(axes, report, look)
        written = io.BytesIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    return written.getvalue()


def _line(axes: Any, report: Report, name: str, place: int, look: Look) -> None:
    """One variant; a gap where nothing was known."""
    size = scale(report["metric"])
    points = [each for each in report["course"] if each["variant"] == name]
    times = [each["start"] for each in points]
    values = [float("nan") if each["value"] is None else size * each["value"] for each in points]
    colour = look.ink if place == 0 else _COLOURS[(place - 1) % len(_COLOURS)]
    stroke = _STROKES[(place - 1) // len(_COLOURS) % len(_STROKES)] if place else "-"
    label = drawable(name, LONGEST)
    axes.plot(times, values, stroke, color=colour, linewidth=1.5, marker="o", markersize=2.5, label=label)


def _framed(axes: Any, report: Report, look: Look) -> None:
    times = sorted({each["start"] for each in report["course"]})
    shown = [times[place * (len(times) - 1) // _TICKS] for place in range(_TICKS + 1)] if times else []
    shown = list(dict.fromkeys(shown))
    days = bool(times) and times[-1] - times[0] >= _TICKS * 86_400
    form = "%d %b" if days else "%d %b\n%H:%M"
    axes.set_xticks(shown, [datetime.fromtimestamp(each, UTC).strftime(form) for each in shown])
    axes.set_title(f"{whole(report['metric'])}, by time (UTC)", fontsize=10, loc="left", color=look.ink)
    if report["metric"] != "feedback":
        axes.set_ylim(bottom=0)
    axes.tick_params(colors=look.ink, labelsize=8, length=0)
    axes.grid(axis="y", color=look.faint, linewidth=0.6)
    axes.set_facecolor("none")
    axes.spines[:].set_visible(False)
    legend = axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=8, frameon=False, labelcolor=look.ink
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
