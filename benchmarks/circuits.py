"""Circuits of a real model: curves of faithfulness by task, criterion and ablation, and a Markdown table of them.

    python -m benchmarks.circuits MODEL --out FOLDER [--tasks ioi,…] [--examples 300] [--seeds 1] [--table]

Every reading is written down as soon as it is made, so that a run that was cut off goes on where it stopped: the same
command again. `--table` prints what there is so far, without a model.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import jsonl
from correction import models
from correction.attribution.criteria.criterion_settings import Settings
from correction.attribution.relevance import Relevance
from correction.circuits import tasks
from correction.circuits.circuit_ablation import Ablation, Kept, Kind, make_ablation
from correction.circuits.metric import SHARES, areas, faithfulness, is_defined
from correction.circuits.order import difference, jaccard_index, relevance, top_components
from correction.circuits.prompt_pairs import TaskRow
from correction.circuits.task_answers import TaskAnswers, TaskReader
from correction.models import LoadedModel
from stats.estimates import Estimate, Floats, wilson

KINDS: tuple[Kind, ...] = ("zero", "mean", "counterfactual")
WHOLE, NONE = "model", "nothing"


class Notes:
    """Readings by name, in a file of one JSON line each."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "readings.jsonl"
        self.found: dict[str, Any] = {row["name"]: row["value"] for row in jsonl.read(self.path)}

    def write(self, name: str, value: Any) -> None:
        """One more."""
        self.found[name] = value
        jsonl.add(self.path, {"name": name, "value": value})

    def __getitem__(self, name: str) -> Floats:
        return np.array(self.found[name])


def arms(seeds: int) -> list[tuple[str, int]]:
    """Orders: the criteria once, random by seed."""
    return [("lrp", 0), ("random", 0), ("gradient", 0), *(("random", seed) for seed in range(1, seeds))]


@dataclass(frozen=True)
class _TaskRows:
    """The rows of a task that orders are computed on, and what reads the rest."""

    attributed: tuple[TaskRow, ...]
    reader: TaskReader


def run(given: argparse.Namespace, notes: Notes) -> None:
    """Read whatever is not read yet."""
    loaded = models.load(given.model, dtype=given.dtype)
    settings = Settings("head", sign="signed")
    rows = {task: _task_rows(loaded, task, given.examples, settings, notes) for task in given.tasks}
    total = notes.found["heads"]
    orders: dict[tuple[str, str, int], Relevance] = {}
    for task, kind, label, seed in wanted(given):
        curve = f"{task}/{kind}/{label}/{seed}"
        if all(f"{curve}/{count}" in notes.found for count in counts(total)[1:-1]):
            continue
        key = (task, label, seed)
        settings = Settings("head", sign="signed", random_seed=seed)
        if key not in orders:
            orders[key] = relevance(loaded, rows[task].attributed, settings, label)
            scores = {name: [round(x, 6) for x in score.tolist()] for name, score in orders[key].scores.items()}
            notes.write(f"{task}/order/{label}/{seed}", scores)
        ablation = make_ablation(loaded, kind, settings, rows[task].attributed)
        reader = rows[task].reader
        _read_once(notes, f"{task}/{WHOLE}", reader, None, ablation)
        _read_once(notes, f"{task}/{kind}/{NONE}", reader, reader.nothing, ablation)
        for count in counts(total):
            if not 0 < count < total:
                continue
            kept = top_components(orders[key], count)
            is_new = _read_once(notes, f"{curve}/{count}", reader, kept, ablation)
            if is_new and label == "lrp" and count == given.circuit:
                rest = difference(reader.everything, kept)
                _read_once(notes, f"{curve}/{count}/necessity", reader, rest, ablation)


def _task_rows(loaded: LoadedModel, task: str, examples: int, settings: Settings, notes: Notes) -> _TaskRows:
    """The rows of a task; the number of heads and the accuracy on the task are written down as well."""
    asked = tasks.task_rows(loaded, task, examples)
    attributed, _, measured = asked.thirds()
    reader = TaskReader(loaded, measured, settings)
    if "heads" not in notes.found:
        notes.write("heads", sum(flags.numel() for flags in reader.nothing.values()))
    if f"{task}/able" not in notes.found:
        right = TaskReader(loaded, asked.rows, settings).read().right
        notes.write(f"{task}/able", [int(right.sum()), len(right)])
    return _TaskRows(attributed, reader)


def _read_once(notes: Notes, name: str, reader: TaskReader, kept: Kept | None, ablation: Ablation) -> bool:
    """Read a circuit and write it down, unless that was done; whether it was read now."""
    if name in notes.found:
        return False
    notes.write(name, noted(reader.read(kept, ablation)))
    return True


def wanted(given: argparse.Namespace) -> Iterator[tuple[str, Kind, str, int]]:
    """What is read, in this order."""
    for kind in KINDS:
        for task in given.tasks:
            for label, seed in arms(given.seeds):
                yield task, kind, label, seed


def counts(total: int) -> list[int]:
    """Components kept at each share of the curve, each once."""
    return sorted({int(share * total) for share in SHARES})


def noted(reading: TaskAnswers) -> list[float]:
    """Logit differences by row."""
    return [round(each, 5) for each in reading.differences.tolist()]


def table(given: argparse.Namespace, notes: Notes) -> Iterator[str]:
    """Markdown, of the curves that are whole."""
    columns = [f"{100 * share:g}%" for share in SHARES if share >= 0.02]
    yield "| task | ablation | order | area (CPR) | distance (CMD) | " + " | ".join(columns) + " |"
    yield "|---" * (5 + len(columns)) + "|"
    for task in given.tasks:
        for kind in KINDS:
            for label, seed in arms(given.seeds):
                line = _line(notes, task, kind, label, seed)
                if line:
                    yield line
    for task in given.tasks:
        if f"{task}/able" in notes.found:
            able = wilson(*(int(each) for each in notes.found[f"{task}/able"]))
            size = min(given.circuit, notes.found["heads"])
            orders = [_order(notes, f"{task}/order/{label}/0") for label in ("lrp", "gradient")]
            overlap = ""
            if orders[0] and orders[1]:
                both = jaccard_index(*(top_components(each, size) for each in orders if each))
                overlap = f"; the first {size} heads of lrp and gradient: Jaccard {both:.2f}"
            yield f"{task}: accuracy {able.value:.1%} [{able.low:.1%}, {able.high:.1%}] of {able.total} rows{overlap}"


def _line(notes: Notes, task: str, kind: str, label: str, seed: int) -> str | None:
    total = notes.found.get("heads", 0)
    names = {count: f"{task}/{kind}/{label}/{seed}/{count}" for count in counts(total)}
    names |= {0: f"{task}/{kind}/{NONE}", total: f"{task}/{WHOLE}"}
    if any(name not in notes.found for name in names.values()):
        return None
    model, nothing = notes[names[total]], notes[names[0]]
    if not is_defined(model, nothing):
        return f"| {task} | {kind} | {label} | not defined: m(N) − m(∅) is not told from 0 |"
    curve = [notes[names[int(share * total)]] for share in SHARES]
    curve_areas = areas(SHARES, curve, model, nothing)
    points = [faithfulness(each, model, nothing) for share, each in zip(SHARES, curve, strict=True) if share >= 0.02]
    cells = [_shown(curve_areas.performance), _shown(curve_areas.distance)] if curve_areas else ["–", "–"]
    cells += ["–" if each is None else f"{each.value:.2f}" for each in points]
    return f"| {task} | {kind} | {label}{f' {seed}' if label == 'random' else ''} | " + " | ".join(cells) + " |"


def _order(notes: Notes, name: str) -> Relevance | None:
    if name not in notes.found:
        return None
    return Relevance("head", {key: torch.tensor(value) for key, value in notes.found[name].items()}, 1)


def _shown(found: Estimate) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def main() -> None:
    """Read, or print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", type=lambda spec: spec.split(","), default=["ioi", "greater-than", "induction"])
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--circuit", type=int, default=54, help="heads of the circuit whose necessity is read")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    notes = Notes(given.out)
    if not given.table:
        run(given, notes)
    print("\n".join(table(given, notes)))  # noqa: T201


if __name__ == "__main__":
    main()
