"""A sweep on disk: its points as CSV, its pictures, and the page that shows all of it."""

import csv
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np

from correction.evaluation import Comparison, Estimate, Evaluation, compare
from correction.report.html_page import Example, Picture, Table, page
from correction.report.mask_details import layers, scatter
from correction.report.sweep_curves import curves
from correction.sweep.results import Sweep, SweepResult
from stats.estimates import Rate

EXAMPLES = 10


def write(sweep: Sweep, folder: str | Path) -> None:
    """Write `sweep.csv`, `curves.png`, `layers.png`, `scatter.png` and `sweep.html` into a folder, made if need be.

    `scatter.png` and the examples are of the sweep's best point, `layers.png` of every arm's best one.

    Raises:
        OSError: It cannot be written there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    best = sweep.best
    write_csv(sweep, folder / "sweep.csv")
    curves(sweep, folder / "curves.png")
    layers({_named(each.point): each.mask for each in sweep.details}, folder / "layers.png")
    scatter(sweep.before, best.after, folder / "scatter.png", f"Toxicity of each prompt, {_named(best.point)}")
    pictures = [
        Picture(
            (folder / "curves.png").read_bytes(),
            "Six charts: toxic and repetitive responses, mean toxicity and perplexity against the number of components "
            "cut, and both rates against the increase of perplexity. The figures are in the tables below.",
            "What each arm does as it cuts more. Lower is better; on the right, lower and further to the left.",
        ),
        Picture(
            (folder / "layers.png").read_bytes(),
            "Chart of the share of each decoder layer's components that is cut, by arm.",
            "Where the cuts lie, of each arm's best point.",
        ),
        Picture(
            (folder / "scatter.png").read_bytes(),
            "Scatter chart of each prompt's toxicity before and after the cut.",
            f"What became of each prompt: {_named(best.point)}. Below the diagonal it became less toxic.",
        ),
    ]
    aim = "toxicity" if sweep.target == "toxicity" else "repetition"
    notes = [
        f"An arm's best point has the least {aim} among those that raise perplexity by at most "
        f"{100 * sweep.perplexity_budget:.3g}%; where all raise it by more, it is the one that does so least. "
        "It was chosen by the very measurements shown here, so they flatter it: measure the mask that you mean to use "
        "on prompts and text that had no part in the choice.",
    ]
    page(
        folder / "sweep.html",
        f"Sweep of {sweep.facts['model']['id']}",
        [_bests(sweep), _points(sweep)],
        pictures,
        examples(sweep.before, best.after),
        sweep.facts,
        notes=notes,
        about_examples=f"Of {_named(best.point)}: first the responses that scored highest before, then others evenly "
        "from the rest.",
    )


def write_csv(sweep: Sweep, path: str | Path) -> None:
    """Write the points, the base first; columns as the fields of `SweepResult`, rates and increases as fractions."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(SweepResult))
        for point in (sweep.base, *sweep.points):
            writer.writerow(f"{value:.8g}" if isinstance(value, float) else value for value in astuple(point))


def examples(before: Evaluation, after: Evaluation, count: int = EXAMPLES) -> list[Example]:
    """Half of them the responses that scored highest before, half from the rest, evenly in the order of the prompts."""
    if not (before.toxicity and after.toxicity):
        return []
    one, other = before.toxicity.scores, after.toxicity.scores
    order = np.argsort(-one, kind="stable")
    worst, rest = order[: (count + 1) // 2], np.sort(order[(count + 1) // 2 :])
    spread = rest[np.linspace(0, len(rest) - 1, min(count - len(worst), len(rest))).astype(int)] if len(rest) else rest
    return [
        Example(
            before.responses[place].prompt,
            before.responses[place].text,
            after.responses[place].text,
            float(one[place]),
            float(other[place]),
        )
        for place in (int(each) for each in (*worst, *spread))
    ]


def _bests(sweep: Sweep) -> Table:
    """The base and every arm's best point, with intervals, and the paired differences."""
    confidence = f"{sweep.before.confidence:.0%} intervals in brackets"
    columns = ("arm", "cut", "toxic", "change, points", "repetitive", "change, points", "perplexity", "increase")
    rows = [_best("base, uncut", sweep.before, None)]
    for each in sweep.details:
        rows.append(_best(_named(each.point), each.after, (each.point, compare(sweep.before, each.after))))
    return Table(f"The base and each arm's best point; {confidence}; changes are paired", columns, rows)


def _best(label: str, found: Evaluation, against: tuple[SweepResult, Comparison] | None) -> Sequence[str]:
    toxic = _rate(found.toxicity.rate) if found.toxicity else "–"
    repetitive = _rate(found.repetition.rate) if found.repetition else "–"
    perplexity = f"{found.perplexity.estimate.value:.3f}" if found.perplexity else "–"
    if against is None:
        return (label, "0", toxic, "–", repetitive, "–", perplexity, "–")
    point, change = against
    share = f"{point.count:,} ({point.fraction:.2%})"
    increase = _change(change.perplexity, "%")
    return (label, share, toxic, _change(change.toxic), repetitive, _change(change.repetitive), perplexity, increase)


def _points(sweep: Sweep) -> Table:
    """The figures of the CSV file, averaged over seeds."""
    columns = ("arm", "cut", "seeds", "toxic", "mean toxicity", "repetitive", "uniqueness", "perplexity", "increase")
    groups: dict[tuple[str, int], list[SweepResult]] = {}
    for point in (sweep.base, *sweep.points):
        groups.setdefault((point.arm, point.count), []).append(point)
    rows = []
    for (arm, count), points in groups.items():

        def mean(name: str, points: list[SweepResult] = points) -> float:
            return sum(getattr(point, name) for point in points) / len(points)

        rows.append(
            (
                arm,
                f"{count:,}",
                str(len(points)) if count else "–",
                f"{mean('toxic_rate'):.1%}",
                f"{mean('mean_toxicity'):.3f}",
                f"{mean('repetitive_rate'):.1%}",
                f"{mean('mean_uniqueness'):.3f}",
                f"{mean('perplexity'):,.3f}",
                f"{mean('perplexity_increase'):+.1%}",
            )
        )
    return Table("Means over seeds; every point is in sweep.csv", columns, rows)


def _named(point: SweepResult) -> str:
    return f"{point.arm}, {point.count:,} {point.granularity}s, seed {point.seed}"


def _rate(rate: Rate) -> str:
    return f"{rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}]"


def _change(estimate: Estimate | None, unit: str = "") -> str:
    if estimate is None:
        return "–"
    value, low, high = (100 * each for each in (estimate.value, estimate.low, estimate.high))
    return f"{value:+.1f}{unit} [{low:+.1f}, {high:+.1f}]"
