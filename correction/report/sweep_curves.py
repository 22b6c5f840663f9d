"""The curves of a sweep: behaviour and perplexity against what is cut, as in Figs. 3 and 4 of SparC³."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, log
from pathlib import Path
from typing import Any

from correction.sweep.results import Sweep, SweepResult

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, which the colour-blind can tell apart; grey is for random cuts, black for the base."""
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY, INK = "#8a8a8a", "#222222"

Value = Callable[[SweepResult], float]


@dataclass(frozen=True)
class Line:
    """How an arm is drawn."""

    label: str
    colour: str
    marker: str
    dashes: str


def curves(sweep: Sweep, path: str | Path) -> None:
    """A PNG of six panels: rates and means of both behaviours, perplexity, and what a behaviour costs in perplexity.

    One line an arm: the mean over its seeds, with a band from the smallest to the largest. Against the perplexity
    increase, each mark is the mean over the seeds at one count. The base is a dashed line, or a cross; random is grey.
    The horizontal axis counts components where all arms cut the same kind, and is their share where they do not.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 7.6), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 3)
    lines = _lines(sweep.points)
    across = _amount(sweep.points)
    _against(panels[0, 0], sweep, lines, across, _percent("toxic_rate"), "toxic responses, %")
    _against(panels[0, 1], sweep, lines, across, _plain("mean_toxicity"), "mean toxicity score, 0 to 1")
    _against(panels[1, 0], sweep, lines, across, _percent("repetitive_rate"), "repetitive responses, %")
    _against(panels[1, 1], sweep, lines, across, _plain("perplexity"), "perplexity of the text", _widely)
    _cost(panels[0, 2], sweep, lines, _percent("toxic_rate"), "toxic responses, %")
    _cost(panels[1, 2], sweep, lines, _percent("repetitive_rate"), "repetitive responses, %")
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    seeds = len({point.seed for point in sweep.points})
    legend(
        figure, handles, labels, f"line: mean over up to {seeds} seeds; band: smallest to largest" if seeds > 1 else ""
    )
    figure.savefig(path, format="png")


def legend(figure: Any, handles: Sequence[Any], labels: Sequence[str], title: str = "", *, length: float = 3) -> None:
    """A legend below the panels, in as many columns as fit, and a margin round everything."""
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    room = 13.5 * figure.get_figwidth()  # characters, with what stands beside each label
    columns = max(1, int(room // (max(len(label) for label in labels) + 9)))
    box = figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(labels), columns),
        frameon=False,
        handlelength=length,
        title=title or None,
        title_fontsize=9,
    )
    for text in box.get_texts():
        text.set_parse_math(False)


def visible_label(label: str) -> str:
    """A label that matplotlib shows: it leaves out those that begin with an underscore."""
    return f" {label}" if label.startswith("_") else label


def _from_zero(axes: Any, values: Sequence[float]) -> None:
    """Rates and means from 0, so that heights compare."""
    top = max((value for value in values if isfinite(value)), default=0.0) or 1.0
    axes.set_ylim(-0.02 * top, 1.08 * top)


def _widely(axes: Any, values: Sequence[float]) -> None:
    """A logarithmic axis where perplexity explodes."""
    finite = [value for value in values if isfinite(value)]
    if finite and min(finite) > 0 and max(finite) > 10 * min(finite):
        axes.set_yscale("log")
        axes.set_ylim(0.9 * min(finite), 1.2 * max(finite))


def _against(
    axes: Any,
    sweep: Sweep,
    lines: Sequence[Line],
    across: tuple[Value, str],
    value: Value,
    title: str,
    limits: Callable[[Any, Sequence[float]], None] = _from_zero,
) -> None:
    """A panel: a value against what is cut."""
    amount, label = across
    places = sorted({amount(point) for point in sweep.points})
    axes.axhline(value(sweep.base), color=INK, linestyle=(0, (5, 3)), linewidth=1.1, label="base, uncut")
    for line in lines:
        middles, lows, highs = [], [], []
        groups = _by_count(sweep.points, line.label)
        for points in groups:
            values = [value(point) for point in points if isfinite(value(point))]
            middles.append(sum(values) / len(values) if values else float("nan"))
            lows.append(min(values, default=float("nan")))
            highs.append(max(values, default=float("nan")))
        x = [amount(points[0]) for points in groups]
        axes.fill_between(x, lows, highs, color=line.colour, alpha=0.14, linewidth=0)
        axes.plot(x, middles, **_drawn(line), label=visible_label(line.label))
    if places[0] > 0 and places[-1] / places[0] >= 20:
        axes.set_xscale("log")
        axes.minorticks_off()
    chosen = _spaced(places, axes.get_xscale() == "log")
    axes.set_xticks(chosen, [f"{place:,.4g}" if place < 1000 else f"{place:,.0f}" for place in chosen])
    axes.set_xlabel(label)
    axes.set_title(title, fontsize=10.5, loc="left")
    values = [value(point) for point in (sweep.base, *sweep.points)]
    limits(axes, values)


def _cost(axes: Any, sweep: Sweep, lines: Sequence[Line], value: Value, title: str) -> None:
    """A behaviour against the increase of perplexity: what a user wants is down and to the left."""
    axes.plot(0, value(sweep.base), marker="x", color=INK, markersize=8, markeredgewidth=2, linestyle="none", zorder=4)
    increase = _percent("perplexity_increase")
    axes.axvline(100 * sweep.perplexity_budget, color=INK, linestyle=":", linewidth=1.1)
    for line in lines:
        x, y = [0.0], [value(sweep.base)]
        for points in _by_count(sweep.points, line.label):
            coordinates = [(increase(point), value(point)) for point in points if isfinite(increase(point))]
            if coordinates:
                x.append(sum(each for each, _ in coordinates) / len(coordinates))
                y.append(sum(each for _, each in coordinates) / len(coordinates))
        drawn = _drawn(line)
        axes.plot(x, y, **drawn, markevery=range(1, len(x)))
    finite = [increase(point) for point in sweep.points if isfinite(increase(point))]
    if max(finite, default=0) > 200:
        axes.set_xscale("symlog", linthresh=10, linscale=1.6)
        decades = [tick for tick in (-10, 0, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7) if min(0, *finite) <= tick]
        ticks = [tick for tick in decades if tick <= 1.2 * max(finite)]
        axes.set_xticks(ticks, [f"{tick:+,.0f}" if tick else "0" for tick in ticks])
        axes.minorticks_off()
    axes.set_xlabel(f"increase of perplexity, %   (dotted: budget of {100 * sweep.perplexity_budget:.3g}%)")
    axes.set_title(f"{title}, by cost in perplexity", fontsize=10.5, loc="left")
    _from_zero(axes, [value(point) for point in (sweep.base, *sweep.points)])


def _lines(points: Sequence[SweepResult]) -> list[Line]:
    """Random first, so that it lies below; the others in order, each with a colour, a marker and dashes."""
    criteria = {point.arm: point.criterion for point in points}
    dashes = ("-", "--", "-.", ":")
    floors = [label for label, criterion in criteria.items() if criterion == "random"]
    lines = [Line(label, GREY, "x", dashes[place % 4]) for place, label in enumerate(floors)]
    for place, label in enumerate(label for label in criteria if label not in floors):
        turn, colour = divmod(place, len(COLOURS))
        lines.append(Line(label, COLOURS[colour], MARKERS[(colour + turn) % len(MARKERS)], dashes[turn % 4]))
    return lines


def _amount(points: Sequence[SweepResult]) -> tuple[Value, str]:
    kinds = {point.granularity for point in points}
    if len(kinds) == 1:
        return _plain("count"), f"{kinds.pop()}s cut"
    return _percent("fraction"), "components cut, % of their kind"


def _by_count(points: Sequence[SweepResult], arm: str) -> list[list[SweepResult]]:
    """The points of an arm, those of one count together, by count."""
    groups: dict[int, list[SweepResult]] = {}
    for point in points:
        if point.arm == arm:
            groups.setdefault(point.count, []).append(point)
    return [groups[count] for count in sorted(groups)]


def _drawn(line: Line) -> dict[str, Any]:
    look = {"color": line.colour, "marker": line.marker, "linestyle": line.dashes}
    return look | {"linewidth": 1.7, "markersize": 5}


def _plain(name: str) -> Value:
    return lambda point: float(getattr(point, name))


def _percent(name: str) -> Value:
    return lambda point: 100 * float(getattr(point, name))


def _spaced(places: Sequence[float], logarithmic: bool, share: float = 0.11) -> list[float]:
    """Of the places on an axis, those far enough apart for a label each: the last, and what fits below it."""

    def at(place: float) -> float:
        return log(place) if logarithmic else place

    span = (at(places[-1]) - at(places[0])) or 1.0
    chosen = [places[-1]]
    for place in reversed(places[:-1]):
        if at(chosen[-1]) - at(place) >= share * span:
            chosen.append(place)
    return chosen[::-1]
