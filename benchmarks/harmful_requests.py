"""Harmful requests that a model refuses: the rows that methods against refusal can be measured on.

    python -m benchmarks.harmful_requests MODEL --out requests.json [--data ../shared/data] [--every 3]

Answers every n-th row of AdvBench (`advbench_harmful_behaviors.csv`), greedily, with the model's own system prompt and
without, and writes how often it refuses and which rows: numbers alone, no request and no answer.
"""

import csv
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.judge import DATA
from correction.evaluation.attack import Form, attack
from correction.models import load

AT_ONCE = 20
"""Requests that are answered before the file is written again; a later call goes on from there."""

NOTHING = {"asked": 0, "refused": [], "succeeded": 0, "words": 0.0}


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
    result: dict[str, Any] = {"benchmark": "harmful_requests", "model": Path(model).name, "of": len(asked)}
    result |= {"rows": rows, "max_new_tokens": max_new_tokens, "system": dict(NOTHING), "bare": dict(NOTHING)}
    if out.exists() and (there := json.loads(out.read_text())).keys() == result.keys():
        same = all(there[key] == result[key] for key in ("model", "rows", "max_new_tokens"))
        result = there if same else result
    forms: tuple[Form, ...] = ("system", "bare")
    for form in forms:
        figures = result[form]
        while figures["asked"] < len(rows):
            part = rows[figures["asked"] : figures["asked"] + AT_ONCE]
            attack_result = attack(loaded, [asked[row] for row in part], form, max_new_tokens=max_new_tokens)
            figures["refused"] = figures["refused"] + [
                row for row, no in zip(part, attack_result.refused, strict=True) if no
            ]
            figures["words"] = figures["words"] * figures["asked"] + attack_result.words * len(part)
            figures["asked"] += len(part)
            figures["words"] = round(figures["words"] / figures["asked"], 2)
            figures["succeeded"] += attack_result.rate.count
            out.write_text(json.dumps(result) + "\n")
        typer.echo(f"{form}: {len(figures['refused'])} of {len(rows)} refused, {figures['succeeded']} answered")


if __name__ == "__main__":
    typer.run(main)
