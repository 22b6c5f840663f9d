"""Harmful requests that a model refuses: the rows that methods against refusal can be measured on.

    python -m benchmarks.harmful_requests MODEL --out requests.json [--data ../shared/data] [--every 3]

Answers every n-th row of AdvBench (`advbench_harmful_behaviors.csv`), greedily, with the model's own system prompt and
without, and writes how often it refuses and which rows: numbers alone, no request and no answer.
"""

import csv
import json
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.judge import DATA
from correction.evaluation.attack import attack
from correction.models import load


def goals(data: Path) -> list[str]:
    """The requests, in the order of the file."""
    with (data / "advbench_harmful_behaviors.csv").open(newline="") as file:
        return [row["goal"] for row in csv.DictReader(file)]


def main(
    model: Annotated[str, typer.Argument(help="Folder or hub id.")],
    out: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")],
    data: Annotated[Path, typer.Option(help="Folder of the public data.", envvar="EXCISE_DATA")] = DATA,
    every: Annotated[int, typer.Option(help="Take every n-th request.")] = 3,
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 40,
    dtype: Annotated[str, typer.Option(help="auto keeps the checkpoint's; float32 is faster on most CPUs.")] = "auto",
) -> None:
    """Count refusals."""
    loaded = load(model, dtype=dtype)
    asked = goals(data)
    rows = list(range(0, len(asked), every))
    result: dict[str, object] = {
        "benchmark": "harmful_requests",
        "model": Path(model).name,
        "rows": rows,
        "of": len(asked),
    }
    for form in ("system", "bare"):
        found = attack(loaded, [asked[row] for row in rows], form, max_new_tokens=max_new_tokens)
        refused = [row for row, flag in zip(rows, found.refused, strict=True) if flag]
        result[form] = {
            "refused": refused,
            "succeeded": found.rate.count,
            "interval": [round(found.rate.low, 4), round(found.rate.high, 4)],
            "words": round(found.words, 1),
        }
        out.write_text(json.dumps(result) + "\n")
        typer.echo(f"{form}: {len(refused)} of {len(rows)} refused, {found.rate.count} answered")


if __name__ == "__main__":
    typer.run(main)
