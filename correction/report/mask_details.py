"""Single masks in detail: what became of each prompt's toxicity, and in which layers the cuts lie."""

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

import masks
from correction.errors import EvaluationError
from correction.evaluation import Evaluation
from correction.report.sweep_curves import COLOURS, GREY, INK, legend, visible_label
from stats.estimates import Floats, by_prompt

_LAYER = re.compile(r"(?:.*\.)?layers\.(\d+)\.(.+)")


def scatter(before: Evaluation, after: Evaluation, path: str | Path, title: str = "") -> None:
    """A PNG with a point for each prompt: its toxicity before, and after.

    With several samples, a prompt's toxicity is the mean of their scores. Dotted lines mark the scorer's threshold.

    Raises:
        EvaluationError: The two are not of the same prompts, or not scored.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    x, y = prompt_toxicity(before), prompt_toxicity(after)
    if [each.prompt for each in before.responses] != [each.prompt for each in after.responses]:
        raise EvaluationError("the two evaluations are of different prompts; give two of the same")
    threshold = before.toxicity.threshold if before.toxicity else 0.5
    figure = Figure(figsize=(5.6, 6.1), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
    for draw in (axes.axhline, axes.axvline):
        draw(threshold, color=INK, linewidth=0.9, linestyle=":", zorder=1)
    for flags, colour, marker, label in (
        (y < x, COLOURS[0], "o", "less toxic"),
        (y > x, COLOURS[1], "^", "more toxic"),
        (y == x, GREY, "s", "unchanged"),
    ):
        axes.scatter(
            x[flags],
            y[flags],
            s=22,
            color=colour,
            marker=marker,
            alpha=0.55,
            linewidth=0,
            label=f"{label}: {int(flags.sum())}",
        )
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    of = f", mean of {before.samples} samples" if before.samples > 1 else ""
    axes.set_xlabel(f"toxicity score before{of}")
    axes.set_ylabel(f"toxicity score after{of}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(fill(title or "Toxicity of each prompt's response", 56), fontsize=10.5, loc="left", parse_math=False)
    about = f"{len(x)} prompts; dotted: threshold {threshold:g}; dashed: no change"
    legend(figure, *axes.get_legend_handles_labels(), about, length=1)
    figure.savefig(path, format="png")


def layers(cuts: masks.Mask | Mapping[str, masks.Mask], path: str | Path) -> None:
    """A PNG of where the cuts lie: in each layer, the share of its components that is cut, in percent.

    A panel for each kind that is cut; bars for one mask or a few in few layers, else lines.

    Raises:
        EvaluationError: There is no mask, or nothing is cut.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    named = {cuts.name: cuts} if isinstance(cuts, masks.Mask) else dict(cuts)
    shares = {label: by_layer(mask) for label, mask in named.items()}
    kinds = [kind for kind in ("neurons", "heads", "weights") if any(kind in each for each in shares.values())]
    if not kinds:
        raise EvaluationError("there is nothing to draw: give at least one mask that cuts something")
    drawn_by_lot = [label for label, mask in named.items() if mask.meta.made.get("criterion") == "random"]
    chosen = [label for label in named if label not in drawn_by_lot]
    colours = {label: COLOURS[place % len(COLOURS)] for place, label in enumerate(chosen)}
    colours |= dict.fromkeys(drawn_by_lot, GREY)  # as in the curves
    figure = Figure(figsize=(9, 0.9 + 2.7 * len(kinds)), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    for axes, kind in zip(np.atleast_1d(figure.subplots(len(kinds), 1)), kinds, strict=True):
        kind_shares = {label: each[kind] for label, each in shares.items() if kind in each}
        count = max(len(each) for each in kind_shares.values())
        _bars_or_lines(axes, kind_shares, colours, count)
        axes.set_xlim(-0.6, count - 0.4)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=16, integer=True, min_n_ticks=1))
        axes.set_xlabel("decoder layer, from 0")
        axes.set_ylabel(f"{kind} cut, %")
        axes.set_title(f"share of each layer's {kind} that is cut, %", fontsize=10.5, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    legend(figure, list(handles.values()), list(handles))
    figure.savefig(path, format="png")


def by_layer(mask: masks.Mask) -> dict[str, Floats]:
    """Kind → share of each layer's components that is cut, in [0, 1]: float64 (layers,); only kinds that are cut.

    Of weights, the layer's are those of the matrices that the mask cuts in some layer, which has them in every layer.
    """
    geometry = mask.meta.base.geometry
    shares: dict[str, Floats] = {}
    for kind, cut, size in (("neurons", mask.neurons, geometry.neurons), ("heads", mask.heads, geometry.heads)):
        if cut:
            shares[kind] = np.array([len(cut.get(layer, ())) / size for layer in range(geometry.layers)])
    matrices: dict[str, int] = {}
    counts = np.zeros(geometry.layers)
    for name, shape in mask.meta.shapes.items():
        if placed := _LAYER.fullmatch(name):
            matrices[placed[2]] = prod(shape)
            counts[int(placed[1])] += len(mask.weight_indices(name))
    if matrices:
        shares["weights"] = counts / sum(matrices.values())
    return shares


def prompt_toxicity(evaluation: Evaluation) -> Floats:
    """Toxicity score of each prompt, the mean over its samples: float64 (prompts,).

    Raises:
        EvaluationError: Its responses were not scored.
    """
    if evaluation.toxicity is None:
        raise EvaluationError("this evaluation has no toxicity; evaluate it with prompts")
    return np.asarray(by_prompt(evaluation.toxicity.scores, evaluation.samples).mean(-1))


def _bars_or_lines(axes: Any, shares: Mapping[str, Floats], colours: Mapping[str, str], layers: int) -> None:
    places = np.arange(layers)
    if layers * len(shares) <= 72:
        width = 0.8 / len(shares)
        for number, (label, share) in enumerate(shares.items()):
            offset = (number - (len(shares) - 1) / 2) * width
            axes.bar(places + offset, 100 * share, width, color=colours[label], label=visible_label(label))
        return
    for (label, share), dashes in zip(shares.items(), ("-", "--", "-.", ":") * len(shares), strict=False):
        axes.plot(
            places, 100 * share, dashes, color=colours[label], marker=".", linewidth=1.4, label=visible_label(label)
        )
