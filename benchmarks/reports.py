"""How long the report of a large experiment takes: 16 variants, 6 periods, each with other weights; prints JSON.

    python -m benchmarks.reports [--variants 16] [--epochs 6] [--units 20000] [--runs 3]

Toxic rates differ a little from variant to variant, so that some are decided, some are not, and none is trivial: what
is not decided costs most. The document is made from sums, so the number of units costs nothing; the page is drawn too.
Processor time is told as well: on a machine that does other things too the clock says more.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace

import numpy as np

from service.experiments.experiment import Experiment, Variant, begin
from service.experiments.outcomes.totals import LATENCY_EDGES, Tally, Totals
from service.experiments.report.decision import report
from service.experiments.report.experiment_page import html
from stats.sequential.rates import remembered


def made(variants: int, epochs: int, units: int, seed: int = 0) -> tuple[Experiment, list[Tally]]:
    """An experiment of so many variants and periods, and what was counted in it: `units` in each period."""
    random = np.random.default_rng(seed)
    names = ["control", *(f"v{number}" for number in range(1, variants))]
    arms = tuple(Variant(name, "base" if name == "control" else f"{name}@1", 1.0) for name in names)
    one = begin(Experiment("large", arms, "control", salt="salt"), 0.0)
    weights = random.uniform(0.5, 2.0, (epochs, variants))
    shares = tuple(dict(zip(names, map(float, each / each.sum()), strict=True)) for each in weights)
    tallies = []
    for epoch in range(epochs):
        counts = random.multinomial(units, list(shares[epoch].values()))
        for place, name in enumerate(names):
            totals = _totals(random, int(counts[place]), 0.03 - 0.0015 * place)
            tallies.append(Tally(epoch, name, totals, totals))
    return replace(one, shares=shares), tallies


def _totals(random: np.random.Generator, n: int, toxic: float) -> Totals:
    latency = [0] * (len(LATENCY_EDGES) + 1)
    latency[40] = n
    return Totals(
        responses=n,
        errors=int(random.binomial(n, 0.002)),
        tokens=80 * n,
        tokens_squared=(6400 + 100) * n,
        seconds=0.5 * n,
        seconds_squared=0.3 * n,
        scored=n,
        toxic=int(random.binomial(n, max(toxic, 0.001))),
        repetitive=int(random.binomial(n, 0.05)),
        refusals=int(random.binomial(n, 0.02)),
        latency=tuple(latency),
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--variants", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--units", type=int, default=20_000, help="in each period")
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    one, tallies = made(asked.variants, asked.epochs, asked.units)
    document = report(one, tallies, 1.0)
    html(document)  # imports and fonts
    seconds: dict[str, list[float]] = {"document_s": [], "document_cpu_s": [], "page_s": [], "page_cpu_s": []}
    for _ in range(asked.runs):
        remembered.cache_clear()
        wall, cpu = time.perf_counter(), time.process_time()
        document = report(one, tallies, 3600.0)
        drawn, drawn_cpu = time.perf_counter(), time.process_time()
        html(document)
        seconds["document_s"].append(drawn - wall)
        seconds["document_cpu_s"].append(drawn_cpu - cpu)
        seconds["page_s"].append(time.perf_counter() - drawn)
        seconds["page_cpu_s"].append(time.process_time() - drawn_cpu)
    medians = {name: round(statistics.median(times), 3) for name, times in seconds.items()}
    sys.stdout.write(json.dumps({**vars(asked), **medians}) + "\n")


if __name__ == "__main__":
    main()
