"""What commands show: progress bars, JSON, and a mask's measurements as a table."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from correction.progress import Progress, silent

out, err = Console(highlight=False, markup=False), Console(stderr=True, highlight=False, markup=False)
"""Standard output for results, standard error for everything else. No markup: prompts and paths may look like it."""


@contextmanager
def progress_bars(shown: bool = True) -> Iterator[Progress]:
    """A bar for each stage, on standard error; lines, one in ten seconds at most, where that is a file."""
    if not shown:
        yield silent
    elif err.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bars(*columns, TimeRemainingColumn(), console=err) as bars:
            tasks: dict[str, Any] = {}

            def show(stage: str, done: int, total: int) -> None:
                if stage not in tasks or bars.tasks[tasks[stage]].finished:
                    tasks[stage] = bars.add_task(stage, total=total)
                bars.update(tasks[stage], completed=done, total=total)

            yield show
    else:
        yield Lines(lambda line: err.print(line, soft_wrap=True))


class Lines:
    """Progress as lines: how far a stage is and how long what is left of it takes at its pace so far.

    A line at most every `interval` seconds, and one at the end of a stage that took longer.
    """

    def __init__(
        self, write: Callable[[str], None], interval: float = 10.0, clock: Callable[[], float] = monotonic
    ) -> None:
        self._write, self._interval, self._clock = write, interval, clock
        self._stage, self._done = "", 0
        self._began = self._last = self._told = clock()
        self._first = self._began, 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Progress of a stage."""
        now = self._clock()
        if stage != self._stage or done <= self._done:
            self._began = self._last  # its first part began when the last one of another stage ended
            self._first = now, done
        self._stage, self._done, self._last = stage, done, now
        took, finished = now - self._began, done >= total
        if now - self._told >= self._interval or (finished and took >= self._interval):
            self._told = now
            since, before = self._first
            pace = (now - since) / (done - before) if done > before else took / done
            left = "" if finished else f", about {_duration(pace * (total - done))} left"
            self._write(f"{stage}: {done}/{total} after {_duration(took)}{left}")


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02d} s"


def print_json(document: Mapping[str, Any]) -> None:
    """One document, and nothing else."""
    print(json.dumps(document, indent=2))  # noqa: T201


def describe_mask(mask: Any) -> dict[str, Any]:
    """All that a mask says of itself, as JSON values."""
    return {
        "digest": mask.digest,
        "counts": dict(mask.counts),
        "dampened": mask.dampened,
        "warnings": list(mask.warnings),
        **json.loads(mask.meta.document(mask.version)),
        "layers": {
            kind: {str(layer): len(indices) for layer, indices in sorted(cut.items())}
            for kind, cut in (("neurons", mask.neurons), ("heads", mask.heads))
        },
    }


def cut_count(mask: Any) -> str:
    """How much a mask cuts, in words, and how much of that it only dampens."""
    parts = [f"{number:,} {kind}" for kind, number in mask.counts.items() if number]
    dampened = f" ({mask.dampened:,} of them dampened)" if mask.dampened else ""
    return (", ".join(parts) or "nothing") + dampened


def measurements_table(mask: Any) -> Any:
    """The measurements in a mask as a table."""
    figures = json.loads(mask.meta.document())["measured"]
    if "circuit" in figures:
        return _circuit(figures["circuit"])
    if "before" not in figures:
        return "nothing was measured with this mask"
    prompts, text = figures.get("prompts", {}), figures.get("text", {})
    title = f"held out: {prompts.get('size', 0)} prompts, {text.get('size', 0)} texts"
    table = Table("measure", "before", "after", "difference", title=title)
    difference = figures.get("difference", {})
    for key in figures["before"]:
        if key in difference:
            cells = [_figure_text(side[key]) for side in (figures["before"], figures["after"])]
            # That of the perplexity is relative: after / before - 1.
            table.add_row(
                key.replace("_", " "), *cells, _figure_text(difference[key], ".1%" if key == "perplexity" else ".3f")
            )
    if "shown" in figures:
        shown = figures["shown"]
        table.add_row("shows the behaviour", *(_figure_text(shown[side]) for side in ("before", "after", "difference")))
    return table


def _circuit(figures: Mapping[str, Any]) -> Table:
    """What was measured of a circuit, on rows that it was not made from."""
    table = Table("measure", "circuit", title=f"the circuit alone, {figures.get('rows', 0)} rows")
    for key in ("faithfulness", "necessity", "kl"):
        if key in figures:
            table.add_row(key, "not defined" if figures[key] is None else _figure_text(figures[key]))
    for side, accuracy in figures.get("accuracy", {}).items():
        table.add_row(f"accuracy, {side}", _figure_text(accuracy))
    return table


def pareto_table(found: Any) -> Table:
    """The Pareto front of a search, as the validation sets saw it."""
    table = Table("ranking", "round", "cut", "shown", "perplexity", title="Pareto front, on the validation sets")
    for each in found.front:
        point = each.described()
        increase = "{:+.2%} [{:+.2%}, {:+.2%}]".format(*point["increase"])
        cells = (point["ranking"], str(point["round"]), f"{each.count:,}", f"{each.behaviour_rate:.1%}", increase)
        table.add_row(*cells, style="bold" if each is found.chosen else None)
    return table


def print_warning(message: str) -> None:
    """A line on standard error."""
    err.print(message, style="yellow", soft_wrap=True)


def print_error(message: str) -> None:
    """A line in red on standard error."""
    err.print(message, style="bold red", soft_wrap=True)


def _figure_text(figure: list[Any], form: str = ".3f") -> str:
    *head, low, high = figure
    value = f"{head[0]}/{head[1]}" if len(head) == 2 else format(head[0], form)
    return f"{value} [{low:{form}}, {high:{form}}]"
