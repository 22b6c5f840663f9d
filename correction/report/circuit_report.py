"""A circuit on disk: its curves as CSV, its pictures, and the page that shows all of it."""

import csv
from pathlib import Path

from correction.circuits.circuit import Circuit
from correction.circuits.circuit_size import Curve
from correction.report.circuit_pictures import faithfulness_curves, parts
from correction.report.html_page import Picture, Table, page
from stats.estimates import Estimate, Rate, wilson

HEADING = ("order", "seed", "ablation", "share", "kept", "faithfulness", "low", "high", "accuracy")
LISTED = 40
"""Components listed on the page."""


def write(found: Circuit, folder: str | Path) -> None:
    """Write `curves.csv`, `curves.png`, `parts.png` and `circuit.html` into a folder, made if need be.

    Raises:
        OSError: It cannot be written there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "curves.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADING)
        for each in found.curves:
            for share, count, value, right in zip(
                each.shares, each.counts, each.faithfulness, each.accuracy, strict=True
            ):
                figures = (
                    ("", "", "") if value is None else tuple(f"{x:.6g}" for x in (value.value, value.low, value.high))
                )
                writer.writerow((each.label, each.seed, each.ablation, share, count, *figures, f"{right:.4g}"))
    faithfulness_curves(found, folder / "curves.png")
    parts(found, folder / "parts.png")
    made = found.mask.meta.made["circuit"]
    kind = found.order.granularity
    pictures = [
        Picture(
            (folder / "curves.png").read_bytes(),
            "Charts of faithfulness against the share of components that is kept, one for each ablation. The figures "
            "are in the tables below and in curves.csv.",
            "Faithfulness of the first components of each order, alone: 1 is what the model does, 0 what it does with "
            "none of them.",
        ),
        Picture(
            (folder / "parts.png").read_bytes(),
            f"Chart of the circuit's {kind}s by layer.",
            f"Where the circuit lies: {made['kept']:,} of {made['universe']['size']:,} {kind}s.",
        ),
    ]
    page(
        folder / "circuit.html",
        f"Circuit of {found.mask.meta.base.id} for {made['task']['name']}",
        [summary(found), _areas(found), *_components(found)],
        pictures,
        [],
        {"mask": found.mask.name, "digest": found.mask.digest, **dict(found.mask.meta.made)},
        notes=[
            "The order was made on a third of the rows, the size chosen on another, and everything here measured on "
            "the last, with bootstrap intervals over its rows, paired. The mask file cuts everything that is not in "
            "the circuit."
        ],
    )


def summary(found: Circuit) -> Table:
    """What the circuit was measured by: one row a measure."""
    made, rows = found.mask.meta.made["circuit"], len(found.circuit.right)

    def right(flags: float) -> Rate:
        return wilson(int(flags), rows)

    lines = [
        ("kept", f"{made['kept']:,} of {made['universe']['size']:,} ({made['kept'] / made['universe']['size']:.1%})"),
        (f"faithfulness, {made['ablation']} ablation", _estimate(found.faithfulness)),
        ("necessity: share lost when the circuit is cut", _estimate(found.necessity)),
        ("accuracy of the model, all rows", _rate(found.able)),
        ("accuracy of the model, reported rows", _rate(right(found.model.right.sum()))),
        ("accuracy of the circuit", _rate(right(found.circuit.right.sum()))),
        ("KL of the next token, nats", _estimate(found.divergence)),
        ("logit difference to be explained, m(N) − m(∅)", _estimate(found.spread)),
    ]
    if found.incompleteness:
        each = found.incompleteness
        value = f"mean {each.mean:.2f}, worst {_estimate(each.worst)}, {each.subsets} subsets"
        lines.append(("incompleteness: circuit and model apart without the same half", value))
    if found.minimality:
        minimality = found.minimality
        lines.append(
            (
                "minimality: needed components",
                f"{minimality.needed} of {len(minimality.falls)} tried, {minimality.of} in all",
            )
        )
    if found.overlaps:
        mean = sum(found.overlaps) / len(found.overlaps)
        lines.append(("overlap between seeds (Jaccard)", f"{mean:.2f}, by chance {found.by_chance:.2f}"))
    dropped = made["task"].get("dropped", {})
    if dropped:
        lines.append(("rows dropped", ", ".join(f"{reason}: {count}" for reason, count in dropped.items())))
    return Table(f"The circuit, on {rows} rows that it was not made from", ("measure", "value"), lines)


def _areas(found: Circuit) -> Table:
    columns = (
        "order",
        "ablation",
        "area (CPR)",
        "distance (CMD)",
        *(f"{share:.1%}" for share in found.curves[0].shares),
    )
    rows = [
        (
            each.label if each.label != "random" else f"random, seed {each.seed}",
            each.ablation,
            _estimate(each.areas.performance if each.areas else None),
            _estimate(each.areas.distance if each.areas else None),
            *_points(each),
        )
        for each in found.curves
    ]
    return Table("Areas of the curves, and faithfulness at each kept share", columns, rows)


def _points(curve: Curve) -> list[str]:
    return ["–" if each is None else f"{each.value:.2f}" for each in curve.faithfulness]


def _components(found: Circuit) -> list[Table]:
    """The components with the largest relevance, and what the circuit loses without them where that was tried."""
    if found.order.granularity == "weight":
        return []
    scored = [
        (float(score[index]), name, index)
        for name, score in found.order.scores.items()
        for index in found.kept[name].nonzero()[:, 0].tolist()
    ]
    falls = found.minimality.falls if found.minimality else {}
    rows = []
    for score, name, index in sorted(scored, reverse=True)[:LISTED]:
        kind, _, layer = name.partition(".")
        rows.append((f"{layer}.{index}", f"{score:.4g}", _estimate(falls.get((name, index)))))
    return [
        Table(
            f"Of the circuit, the {kind} with the largest relevance, and the fall of faithfulness without each",
            ("layer.number", "relevance", "fall"),
            rows,
        )
    ]


def _estimate(found: Estimate | None) -> str:
    return "–" if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _rate(rate: Rate) -> str:
    return f"{rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}]"
