"""Rounds of a load on several servers in turn, and their summary against the first of them."""

import dataclasses
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import track

from benchmarks import load
from benchmarks.load import Figures, Load, Target
from benchmarks.servers import Server

RATIOS = ("tokens_per_second", "ttft_p50", "ttft_p99", "between_tokens_p50")


@dataclass(frozen=True)
class Side:
    """One of what is compared: a server, and what the requests ask it for."""

    name: str
    server: Server
    targets: tuple[Target, ...]


def order(sides: Sequence[Side], number: int) -> list[Side]:
    """The sides in the order of round `number`: every other round backwards (A B, B A, …)."""
    return list(sides if number % 2 == 0 else reversed(sides))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest, to four digits."""
    summary = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: float(f"{value:.4g}") for name, value in summary.items()}


def ratios(rounds: Sequence[dict[str, Figures]], name: str, base: str) -> dict[str, dict[str, float]]:
    """Each figure of `name` over that of `base` in the same round."""
    return {
        figure: spread([getattr(each[name], figure) / getattr(each[base], figure) for each in rounds])
        for figure in RATIOS
    }


def compare(sides: Sequence[Side], asked: Load, rounds: int) -> dict[str, Any]:
    """Warm every side up, then load them in turn; the first side is what the others are compared with.

    Only one server is under load at a time. `unloaded_cpu` is the most processor time that the servers not under load
    took in a round, over its seconds: near 0, or they disturbed the measurement.
    """
    before = os.getloadavg()[0]
    servers = {side.server.url: side.server for side in sides}
    for number, side in enumerate(sides):
        few = max(asked.clients, len(side.targets))
        short = max(2, asked.tokens_out // 4)
        warm = dataclasses.replace(asked, requests=3 * few, tokens_out=short, seed=10_000 + number)
        load.run(side.server.url, side.targets, warm)
        side.server.settle()
    round_figures: list[dict[str, Figures]] = []
    unloaded = 0.0
    jobs = [(number, side) for number in range(rounds) for side in order(sides, number)]
    for number, side in track(jobs, "rounds", console=Console(stderr=True)):
        fresh = dataclasses.replace(asked, seed=len(sides) * number + sides.index(side))  # no prompt comes twice
        others = [server for url, server in servers.items() if url != side.server.url]
        cpu, start = sum(server.cpu_seconds() for server in others), time.perf_counter()
        figures = load.run(side.server.url, side.targets, fresh)
        cpu = sum(server.cpu_seconds() for server in others) - cpu
        unloaded = max(unloaded, cpu / (time.perf_counter() - start))
        side.server.settle()
        if len(round_figures) == number:
            round_figures.append({})
        round_figures[number][side.name] = figures
    base, *rest = (side.name for side in sides)
    fields = [field.name for field in dataclasses.fields(Figures)]
    return {
        "figures": {
            side.name: {field: spread([getattr(each[side.name], field) for each in round_figures]) for field in fields}
            for side in sides
        },
        "ratios": {name: ratios(round_figures, name, base) for name in rest},
        "compilation": {side.name: side.server.compilation() for side in sides},
        "unloaded_cpu": round(unloaded, 3),
        "load_before": round(before, 2),
    }
