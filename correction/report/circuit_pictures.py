"""The pictures of a circuit: its faithfulness against its size, and where its components lie."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from correction.circuits.circuit import Circuit
from correction.circuits.circuit_size import Curve
from correction.report.sweep_curves import COLOURS, GREY, INK, MARKERS, legend


def faithfulness_curves(found: Circuit, path: str | Path) -> None:
    """A PNG with a panel for each ablation: faithfulness against the kept share, which is on a logarithmic axis.

    A line for each order with a band of its 95% interval; random is grey, the mean over its seeds, with a band from the
    smallest to the largest. Dotted: the size that was chosen.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = found.mask.meta.made["circuit"]
    kinds = list(dict.fromkeys(curve.ablation for curve in found.curves))
    figure = Figure(figsize=(1.2 + 5.4 * len(kinds), 4.9), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        curves = [curve for curve in found.curves if curve.ablation == kind]
        for height in (0, 1):
            axes.axhline(height, color=INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
        _random(axes, [curve for curve in curves if curve.label == "random"])
        others = [curve for curve in curves if curve.label != "random"]
        for place, curve in enumerate(others):
            _line(axes, curve, COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)])
        if kind == made["ablation"]:
            share = 100 * made["kept"] / made["universe"]["size"]
            axes.axvline(share, color=INK, linewidth=1.1, linestyle=":", label=f"chosen: {made['kept']:,} kept")
        axes.set_xscale("log")
        ticks = [100 * share for share in curves[0].shares]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel(f"{found.order.granularity}s kept, %")
        axes.set_title(f"faithfulness, {kind} ablation", fontsize=10.5, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
    heights = [each.value for curve in found.curves for each in curve.faithfulness if each is not None]
    if heights:
        panels[0].set_ylim(max(-1.0, min(-0.1, *heights) - 0.1), min(2.5, max(1.1, *heights) + 0.1))
    shown: dict[str, Any] = {}
    for axes in panels:
        shown |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    legend(figure, list(shown.values()), list(shown), "bands: 95% intervals over rows; random: over seeds")
    figure.savefig(path, format="png")


def parts(found: Circuit, path: str | Path) -> None:
    """A PNG of where the circuit lies.

    Of heads, a map of their relevance by layer and head, with the circuit framed; of neurons and weights, a bar for
    each layer's kept share.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heads = found.order.granularity == "head"
    layers = found.mask.meta.base.geometry.layers
    size = (2.6 + 0.42 * found.mask.meta.base.geometry.heads, 2.0 + 0.24 * layers) if heads else (8.0, 3.6)
    figure = Figure(figsize=(max(5.0, min(size[0], 14.0)), max(3.2, min(size[1], 14.0))), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    (_heads if heads else _layers)(figure, found)
    figure.savefig(path, format="png")


def _heads(figure: Any, found: Circuit) -> None:
    from matplotlib.patches import Rectangle

    names = list(found.order.scores)
    scores = np.stack([found.order.scores[name].numpy() for name in names])
    limit = float(np.nanmax(np.abs(scores))) or 1.0
    axes = figure.add_subplot()
    image = axes.imshow(scores, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", origin="lower")
    for row, name in enumerate(names):
        for column in found.kept[name].nonzero()[:, 0].tolist():
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=1.2))
    axes.set_xticks(range(scores.shape[1]) if scores.shape[1] <= 32 else range(0, scores.shape[1], 4))
    step = 1 if len(names) <= 40 else 4
    axes.set_yticks(range(0, len(names), step), [name.partition(".")[2] for name in names][::step])
    axes.set_xlabel("head")
    axes.set_ylabel("layer")
    axes.set_title("relevance for the answer; framed: the circuit", fontsize=10.5, loc="left")
    figure.colorbar(image, ax=axes, shrink=0.8)


def _layers(figure: Any, found: Circuit) -> None:
    kept: dict[int, list[int]] = {}
    for name, flags in found.kept.items():
        numbers = [int(part) for part in name.split(".") if part.isdecimal()]
        counts = kept.setdefault(numbers[0], [0, 0])
        counts[0] += int(flags.sum())
        counts[1] += flags.numel()
    axes = figure.add_subplot()
    places = sorted(kept)
    axes.bar(places, [100 * kept[place][0] / kept[place][1] for place in places], color=COLOURS[0])
    axes.set_xlabel("layer")
    axes.set_title(f"{found.order.granularity}s of each layer in the circuit, %", fontsize=10.5, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)


def _line(axes: Any, curve: Curve, colour: str, marker: str) -> None:
    points = [(share, each) for share, each in zip(curve.shares, curve.faithfulness, strict=True) if each is not None]
    x = [100 * share for share, _ in points]
    axes.fill_between(
        x, [each.low for _, each in points], [each.high for _, each in points], color=colour, alpha=0.16, linewidth=0
    )
    axes.plot(x, [each.value for _, each in points], color=colour, marker=marker, markersize=5, label=curve.label)


def _random(axes: Any, curves: Sequence[Curve]) -> None:
    if not curves:
        return
    shares = [100 * share for share in curves[0].shares]
    heights = np.array([[np.nan if each is None else each.value for each in curve.faithfulness] for curve in curves])
    axes.fill_between(shares, heights.min(0), heights.max(0), color=GREY, alpha=0.2, linewidth=0)
    axes.plot(shares, heights.mean(0), color=GREY, marker="x", markersize=5, label=f"random, {len(curves)} seeds")
