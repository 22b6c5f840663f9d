"""The picture of a report: rates of each variant with their intervals, and the differences that decide."""

from __future__ import annotations

import functools
import gc
import io
from dataclasses import astuple, dataclass
from textwrap import fill
from threading import Lock
from typing import Any

from service.experiments.experiment import RATES, Goal
from service.experiments.report.number_format import NAMES, evidence, percent, points, signed
from service.experiments.report.report_document import Comparison, Estimate, Report, VariantFigures, decisive

DRAWING = Lock()
"""matplotlib keeps caches that are not made for several threads."""

LONGEST = 28
"""Characters of a name that are drawn."""


@dataclass(frozen=True)
class Look:
    """Colours, in hexadecimal, for a light or a dark ground."""

    ink: str
    faint: str
    band: str
    better: str
    worse: str
    undecided: str

    def of(self, decision: str) -> str:
        """Of a decision; blue and orange, which the colour-blind can distinguish."""
        known = {"better": self.better, "worse": self.worse, "guardrail crossed": self.worse}
        return known.get(decision, self.undecided)


LIGHT = Look("#222222", "#dddddd", "#eef1f4", "#0072b2", "#c25400", "#6b6b6b")
DARK = Look("#e8e8e8", "#3f444a", "#2b3036", "#5db5ec", "#ff9d57", "#a8a8a8")


def png(report: Report) -> bytes:
    """A PNG, panels side by side, on white."""
    return _drawn(report, LIGHT, stacked=False, form="png", facecolor="white", dpi=150)


def svg(report: Report, *, dark: bool = False) -> bytes:
    """An SVG for a page, panels one below the other and no title, on nothing."""
    drawn = _drawn(report, LIGHT, stacked=True, form="svg", transparent=True, metadata={"Date": None})
    return darkened(drawn) if dark else drawn


def darkened(drawn: bytes) -> bytes:
    """An SVG for a dark ground, from one for a light one: drawing it anew takes a second."""
    for light, dark in zip(astuple(LIGHT), astuple(DARK), strict=True):
        drawn = drawn.replace(light.encode(), dark.encode())
    return drawn


@functools.cache
def _load() -> None:
    """Import what draws, once.

    Its 60,000 objects stay, so no garbage collection is to look at them: each would hold up every response that is
    under way.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        import matplotlib.backends.backend_agg
        import matplotlib.figure
        import matplotlib.font_manager

        matplotlib.font_manager.get_font(matplotlib.font_manager.findfont("DejaVu Sans"))
        gc.freeze()
    finally:
        if collects:
            gc.enable()


def _drawn(report: Report, look: Look, *, stacked: bool, form: str, **saved: Any) -> bytes:
    _load()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rates = _rates(report)
    rows, panels = len(report["variants"]), len(rates) + 1
    height = 0.85 + 0.42 * rows
    size = (4.1, panels * height) if stacked else (4.0 * panels + 0.6, height + 1.2)
    with DRAWING:
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
        FigureCanvasAgg(figure)
        places = figure.subplots(panels, 1) if stacked else figure.subplots(1, panels)
        for place, (axes, rate) in enumerate(zip(places, [*rates, None], strict=True)):
            if rate is None:
                _differences(axes, report, look)
            else:
                _levels(axes, report, rate, look)
            _framed(axes, report, look, named=stacked or place == 0)
        if not stacked:
            title = drawable(f"{report['experiment']}: {report['headline']}", 90)
            figure.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold", parse_math=False)
            caption = f"{report['why']} Bars: intervals. {report['peeking']}"
            caption = fill(drawable(caption, 900), 66 * panels)
            figure.supxlabel(caption, x=0.012, ha="left", fontsize=8.5, color=look.ink, parse_math=False)
        written = io.BytesIO()
        figure.savefig(written, format=form, **saved)
    return written.getvalue()


def _rates(report: Report) -> list[Goal]:
    """The metric of the decision, then toxicity and repetition."""
    return list(dict.fromkeys([report["metric"], *RATES[:2]]))


def scale(metric: Goal) -> float:
    """What is drawn of 1: rates are drawn in percent."""
    return 1.0 if metric == "feedback" else 100.0


def _levels(axes: Any, report: Report, rate: Goal, look: Look) -> None:
    """A panel: one rate of every variant, over units, in percent; or mean feedback."""
    decisions = {each["variant"]: each["decision"] for each in report["comparisons"]}
    tops = [0.0]
    for row, variant in enumerate(report["variants"]):
        shown, label = _level(variant, rate)
        colour = look.ink if variant["role"] == "control" else look.of(decisions[variant["name"]])
        _whisker(axes, row, shown, colour, label, look, size=scale(rate), hollow=variant["role"] == "mirrored")
        tops += [scale(rate) * each for each in shown.values() if isinstance(each, float)]
    if rate == "feedback":
        axes.set_xlim(-1.06, 1.06)
    else:
        axes.set_xlim(0, 1.06 * max(tops) or 1)
    axes.set_title(
        "feedback, mean" if rate == "feedback" else f"{NAMES[rate]}, % of units",
        fontsize=10,
        loc="left",
        color=look.ink,
    )


def _level(variant: VariantFigures, rate: Goal) -> tuple[Estimate, str]:
    """What is drawn, and the figure beside it."""
    if rate == "feedback":
        value = variant["feedback"]["value"]
        return variant["feedback"], "no data" if value is None else signed(value, 2)
    figures = variant["rates"][rate]
    shown: Estimate = {"value": figures["unit_value"], "low": figures["low"], "high": figures["high"]}
    return shown, percent(figures["unit_value"]) if figures["unit_trials"] else "no data"


def _gap(comparison: Comparison, metric: Goal) -> str:
    """The figure beside a difference."""
    value = decisive(comparison, metric)["value"]
    if value is None:
        return "no data"
    if metric == "feedback":
        return signed(value, 2)
    return f"{points(value)}  (e = {evidence(comparison['differences'][metric]['e_value'])})"


def _differences(axes: Any, report: Report, look: Look) -> None:
    """The last panel: the metric's difference to the control, with the margin as a band."""
    metric, size = report["metric"], scale(report["metric"])
    margin = size * report["margin"]
    axes.axvspan(-margin, margin, color=look.band, linewidth=0)
    axes.axvline(0, color=look.ink, linewidth=1)
    against = {each["variant"]: each for each in report["comparisons"]}
    ends = [1.3 * margin]
    for row, variant in enumerate(report["variants"]):
        if variant["name"] not in against:
            continue
        comparison = against[variant["name"]]
        estimate, label = decisive(comparison, metric), _gap(comparison, metric)
        hollow = variant["role"] == "mirrored"
        _whisker(axes, row, estimate, look.of(comparison["decision"]), label, look, size=size, hollow=hollow)
        ends += [
            abs(size * each) for each in (estimate["value"], estimate["low"], estimate["high"]) if each is not None
        ]
    axes.set_xlim(-1.06 * max(ends), 1.06 * max(ends))
    title = f"{NAMES[metric]}: {'' if metric == 'feedback' else 'points '}over {drawable(report['control'], LONGEST)}"
    axes.set_title(title, fontsize=10, loc="left", color=look.ink, parse_math=False)
    left, right = ("worse", "better") if metric == "feedback" else ("better", "worse")
    axes.set_xlabel(f"← {left}    band: ±{margin:.3g}, too little to matter    {right} →", fontsize=8, color=look.ink)


def _whisker(
    axes: Any, row: int, found: Estimate, colour: str, told: str, look: Look, *, size: float, hollow: bool
) -> None:
    """A dot with its interval, and the figure above it; hollow for a mirrored variant."""
    if found["value"] is None:
        axes.annotate(told, (0.5, row), xycoords=("axes fraction", "data"), ha="center", va="center", **_small(look))
        return
    if found["low"] is not None and found["high"] is not None:
        axes.plot([size * found["low"], size * found["high"]], [row, row], color=colour, linewidth=3, alpha=0.55)
    value = size * found["value"]
    axes.plot(
        value, row, "o", color=colour, markersize=7, markerfacecolor="none" if hollow else colour, markeredgewidth=1.6
    )
    axes.annotate(told, (value, row), (0, 6), textcoords="offset points", ha="center", va="bottom", **_small(look))


def _small(look: Look) -> dict[str, Any]:
    return {"fontsize": 8, "color": look.ink}


def _framed(axes: Any, report: Report, look: Look, *, named: bool) -> None:
    """What all panels share: variants from the top down, faint lines, no frame."""
    rows = report["variants"]
    names = [drawable(each["name"], LONGEST) + _marks(each) for each in rows]
    axes.set_ylim(len(rows) - 0.5, -0.75)
    axes.set_yticks(range(len(rows)), names if named else [""] * len(rows), parse_math=False)
    axes.tick_params(colors=look.ink, labelsize=9, length=0)
    axes.grid(axis="x", color=look.faint, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    axes.spines[:].set_visible(False)
    axes.locator_params(axis="x", nbins=5)


def _marks(variant: VariantFigures) -> str:
    """What is drawn after a variant's name."""
    return " (mirrored)" * (variant["role"] == "mirrored") + " (has warnings)" * bool(variant["warnings"])


def drawable(text: str, longest: int) -> str:
    """A name as it can be drawn: what the font lacks as a box, cut where it is too long."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    drawn = "".join(c if c.isprintable() and font.get_char_index(ord(c)) else "□" for c in text)
    return drawn if len(drawn) <= longest else drawn[: longest - 1] + "…"
