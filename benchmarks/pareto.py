"""The rows of `corrections` as a table and a picture: what is left of a behaviour against what it costs.

    python -m benchmarks.pareto benchmarks/results/smollm2.jsonl --picture docs/real-pareto.png

Prints a Markdown table of each case, cheapest first. Toxicity is by both judges: the built-in scorer, which searches
used, and the second, which took part in none; the picture shows the second. Whiskers are intervals of 95%.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import typer

Row = dict[str, Any]
MARKS = {"search": ("o", "tab:red"), "criterion": ("s", "tab:blue"), "random": ("x", "tab:gray"), "rival": ("^", "k")}
FARTHEST = 0.5
"""Increase of perplexity beyond which the picture shows nothing."""
NAMES = {
    "base": "as it is",
    "aura": "AurA",
    "aura_neurons": "AurA, neurons",
    "instruction_before": "instruction before",
    "system_prompt": "system message against it",
    "system_prompt_neutral": "neutral system message",
    "mean_shift_0.25": "mean shift, 0.25",
    "mean_shift_0.5": "mean shift, 0.5",
    "mean_shift_1": "mean shift, 1",
}
"""Of rivals, as they are shown."""
SUFFIXES = {"*p": "*, good samples", "*r": "*, rank 4"}
TICKS = (-10, -3, -1, 0, 1, 2, 5, 10, 30)


def left(row: Row) -> list[float]:
    """Responses that show the behaviour, of how many, and the limits of the rate."""
    counted: list[float] = row["toxic_judge"] if row["case"] == "toxicity" else row["repetitive"]
    return counted


def label(row: Row) -> str:
    """What made the row."""
    said = NAMES.get(row["rival"], str(row["rival"]))
    for suffix, shown in SUFFIXES.items():
        said = said.removesuffix(suffix) + shown if said.endswith(suffix) else said
    if row.get("budget"):
        said += f", {row['budget']:.0%}"
    return (
        said
        + ("" if row.get("rounds", 1) == 1 else ", 2 rounds")
        + (f", seed {row['seed']}" if row.get("seed") else "")
    )


def kind(row: Row) -> str:
    """Its mark in the picture."""
    name = row["rival"]
    if ", " not in name:
        return "rival"
    return next((each for each in ("search", "random") if each in name), "criterion")


def table(rows: list[Row]) -> str:
    """Markdown."""
    toxic = rows[0]["case"] == "toxicity"
    base = next(row for row in rows if row["rival"] == "base")
    head = ["toxic by the built-in scorer", "by the second judge", "its expected maximum"] if toxic else ["loops"]
    lines = [["what", *head, "C4 perplexity", "KL, nats a token", "WikiText-2", "uniqueness", "gates"]]
    for row in sorted(rows, key=lambda each: each["c4"]["increase"][0] if "c4" in each else 0):
        if "nothing" in row:
            continue
        counts = ("toxic_profanity", "toxic_judge") if toxic else ("repetitive",)
        cells = [label(row)]
        for name in counts:
            change = "" if row is base else f" ({row[name][0] / base[name][0] - 1:+.0%})"
            cells.append(f"{row[name][0]}{change}".replace("-", "−"))
        cells += [f"{row['maximum_judge'][0]:.3f}"] if toxic else []
        for text in ("c4", "wikitext2"):
            value, low, high = row[text]["increase"]
            cells.append("" if row is base else f"{value:+.1%} [{low:+.1%}, {high:+.1%}]".replace("-", "−"))
        cells.insert(-1, f"{row['c4']['kl'][0]:.3f}")
        lines.append([*cells, f"{row['uniqueness']:.2f}", f"{row.get('cut', ''):,}" if row.get("cut") else ""])
    written = ["| " + " | ".join(line) + " |" for line in lines]
    none = [label(row) for row in rows if "nothing" in row]
    after = f"\nNothing within the budget lowered it on the validation prompts: {', '.join(none)}.\n" if none else ""
    total = left(base)[1]
    return "\n".join([f"Of {total:,} responses:\n", written[0], "|" + "---|" * len(lines[0]), *written[1:], after])


def draw(cases: dict[str, list[Row]], picture: Path) -> None:
    """One panel for each case."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(cases), figsize=(6 * len(cases), 4.5), squeeze=False)
    for panel, (name, rows) in zip(panels[0], cases.items(), strict=True):
        seen = set()
        for row in rows:
            if "nothing" in row or abs(row["c4"]["increase"][0]) > FARTHEST:
                continue
            mark, colour = MARKS[kind(row)]
            count, total, low, high = left(row)
            value, least, greatest = row["c4"]["increase"]
            panel.errorbar(
                100 * value,
                100 * count / total,
                [[100 * (count / total - low)], [100 * (high - count / total)]],
                [[100 * (value - least)], [100 * (greatest - value)]],
                fmt=mark,
                color=colour,
                elinewidth=0.6,
                label=None if kind(row) in seen else kind(row),
            )
            if kind(row) == "rival":
                left_side = value > 0.1  # near the right edge
                panel.annotate(
                    label(row),
                    (100 * value, 100 * count / total),
                    fontsize=7,
                    xytext=(-5 if left_side else 5, 4),
                    textcoords="offset points",
                    ha="right" if left_side else "left",
                )
            seen.add(kind(row))
        panel.set_xscale("symlog", linthresh=1)
        panel.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
        panel.set_title(f"SmolLM2-135M-Instruct: {name}")
        panel.set_xlabel("increase of C4 perplexity, %")
        panel.set_ylabel("responses that show it, %")
        panel.set_ylim(0)
        panel.axvline(0, color="0.8", linewidth=0.8)
    handles: dict[str, Any] = {}
    for panel in panels[0]:
        handles |= {name: handle for handle, name in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles=list(handles.values()), labels=list(handles), loc="lower center", ncols=len(MARKS), frameon=False
    )
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(picture, dpi=110)


def main(
    rows: Annotated[Path, typer.Argument(help="JSON lines of `benchmarks.corrections`.")],
    picture: Annotated[Path | None, typer.Option(help="PNG to write.")] = None,
) -> None:
    """Print the tables, draw the picture."""
    cases: dict[str, list[Row]] = {}
    for line in rows.read_text().splitlines():
        row = json.loads(line)
        cases.setdefault(row["case"], []).append(row)
    for name, case_rows in cases.items():
        typer.echo(f"**{name}**. {table(case_rows)}")
    if picture:
        draw(cases, picture)


if __name__ == "__main__":
    typer.run(main)
