"""False alarms and power of the anytime-valid test of two rates, in simulation; prints tables, then one JSON line.

    python -m benchmarks.sequential [--runs 1000] [--units 20000] [--every 50] [--longest 60000] [--processes 2]

**False alarms**: both variants have one rate; after every `--every` units somebody looks and would stop at evidence
against equal rates at 5%. Beside it the fixed z-test (pooled, |z| >= 1.96) at the same looks, and at the last only.

**Power**: median units until equal rates are rejected, looking after every `--every` units up to `--longest`; None
where fewer than half of the runs got there. Beside it, on the same units, the plug-in e-process of Turner, Ly, Grünwald
2024: blocks of units in the designed ratio, in order of arrival, Beta(0.18, 0.18) priors as they recommend. Where there
are several shares, the treatment is ramped up, an epoch a share; Turner's test then multiplies its epochs.

Units come one by one, to the treatment with the probability of its share. The service's e-value at every look of every
run would take hours. It is an infimum over the free rates, so the value at the likeliest free rates is never less.
Where that stays under the limit no alarm is possible; elsewhere the service's own `log_e_value` decides.
"""

import argparse
import json
import math
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import logsumexp, xlog1py, xlogy

from stats.sequential.counts import Count, Stratum
from stats.sequential.effect_prior import EITHER
from stats.sequential.likelihood_ratios import Cells, log_ratios
from stats.sequential.rates import log_e_value

ALPHA = 0.05
LIMIT = -math.log(ALPHA)
NORMAL = 1.959964
PRIOR = 0.18
TESTS = ("e_value", "turner", "z")
CHUNK = 50
"""Looks of a run that are looked through at once."""
RAMP = ((0.01, 2000), (0.05, 4000), (0.25, 4000), (0.5, math.inf))
"""Share of the treatment, and units of the epoch."""

Whole = NDArray[np.int64]


class Case(NamedTuple):
    """One row: rates of control and treatment, and the epochs' shares and units."""

    control: float
    treatment: float
    epochs: tuple[tuple[float, float], ...]


class Run(NamedTuple):
    """Units at the first rejection of one run by each test, None where there is none, and the last look's z-test."""

    e_value: int | None
    turner: int | None
    z: int | None
    last: bool


def simulated(case: Case, looks: Whole, seed: Sequence[int]) -> Run:
    """One run of a case."""
    random = np.random.default_rng(seed)
    units = int(looks[-1])
    bounds = np.minimum(np.cumsum([0.0, *(length for _, length in case.epochs)]), units).astype(int)
    shares = np.repeat([share for share, _ in case.epochs], np.diff(bounds))
    treated = random.random(units) < shares
    events = random.random(units) < np.where(treated, case.treatment, case.control)
    tables = []
    for (share, _), start, end in zip(case.epochs, bounds, bounds[1:], strict=False):
        inside = (np.arange(units) >= start) & (np.arange(units) < end)
        sums = [inside & ~treated & events, inside & ~treated, inside & treated & events, inside & treated]
        tables.append((share, np.array([np.cumsum(one)[looks - 1] for one in sums])))
    z = _z_test(np.sum([counts for _, counts in tables], axis=0))
    rejections = np.flatnonzero(_turner(case, treated, events, bounds)[looks - 1] >= LIMIT)
    return Run(_e_value(tables, looks), _first(rejections, looks), _first(np.flatnonzero(z), looks), bool(z[-1]))


def _first(found: Whole, looks: Whole) -> int | None:
    return int(looks[found[0]]) if found.size else None


def _e_value(tables: list[tuple[float, Whole]], looks: Whole) -> int | None:
    """Units at the first look at which the service's test rejects."""
    for start in range(0, len(looks), CHUNK):
        for look in start + _possible([(share, counts[:, start : start + CHUNK]) for share, counts in tables]):
            strata = []
            for share, counts in tables:
                k_a, n_a, k_b, n_b = (int(count) for count in counts[:, look])
                strata.append(Stratum(Count(k_a, n_a), Count(k_b, n_b), share))
            if log_e_value(strata) >= LIMIT:
                return int(looks[look])
    return None


def _possible(tables: list[tuple[float, Whole]]) -> Whole:
    """Looks at which the mixture's value at the likeliest free rates reaches the limit."""
    value: NDArray[np.float64] = EITHER.log_masses[None, :]
    for share, counts in tables:
        if (counts[:, :1] == counts).all():  # an epoch that is over, or to come
            counts = counts[:, :1]
        if counts.any():
            k_a, n_a, k_b, n_b = counts
            cells = Cells(k_a, n_a, k_b, n_b, share)
            value = value + log_ratios(cells, (k_a + k_b) / np.maximum(1, n_a + n_b), 0.0, EITHER)
    reached = np.broadcast_to(logsumexp(value, axis=1) >= LIMIT, tables[0][1].shape[1:])
    return np.flatnonzero(reached)


def _z_test(counts: Whole) -> NDArray[np.bool_]:
    """Whether a z-test of pooled variance rejects at each look."""
    k_a, n_a, k_b, n_b = counts
    n_a, n_b = np.maximum(n_a, 1), np.maximum(n_b, 1)
    pooled = (k_a + k_b) / (n_a + n_b)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
    return np.asarray((error > 0) & (np.abs(k_b / n_b - k_a / n_a) >= NORMAL * error))


def _turner(case: Case, treated: NDArray[np.bool_], events: NDArray[np.bool_], bounds: Whole) -> NDArray[np.float64]:
    """Logarithm of the plug-in e-process after each unit [units]."""
    total = np.zeros(len(events))
    for (share, _), start, end in zip(case.epochs, bounds, bounds[1:], strict=False):
        sides = (np.flatnonzero(side[start:end]) + start for side in (treated, ~treated))
        b, a = zip(_block(share), sides, strict=True)
        blocks = min(len(a[1]) // a[0], len(b[1]) // b[0])
        if not blocks:
            continue
        rates, sums, ends = [], [], []
        for size, places in (a, b):
            places = places[: blocks * size].reshape(blocks, size)
            sums.append(events[places].sum(1))
            before = np.concatenate([[0], np.cumsum(sums[-1])[:-1]])
            rates.append((before + PRIOR) / (np.arange(blocks) * size + 2 * PRIOR))
            ends.append(places[:, -1])
        null = (a[0] * rates[0] + b[0] * rates[1]) / (a[0] + b[0])
        steps = sum(
            _likelihood(hits, size, rate) - _likelihood(hits, size, null)
            for hits, size, rate in zip(sums, (a[0], b[0]), rates, strict=True)
        )
        np.add.at(total, np.maximum(*ends), steps)
    return np.cumsum(total)


def _block(share: float) -> tuple[int, int]:
    """Smallest whole numbers of treatment and control in the ratio of the share."""
    treatment = round(share * 100)
    divisor = math.gcd(treatment, 100 - treatment)
    return treatment // divisor, (100 - treatment) // divisor


def _likelihood(events: Whole, trials: int, rates: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(xlogy(events, rates) + xlog1py(trials - events, -rates))


def _task(task: tuple[Case, Whole, tuple[int, int]]) -> Run:
    return simulated(*task)


def rows(cases: Sequence[Case], looks: Whole, runs: int, processes: int) -> Iterator[tuple[Case, list[Run]]]:
    """All runs of each case."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for n, case in enumerate(cases):
            tasks = [(case, looks, (n, run)) for run in range(runs)]
            yield case, pool.map(_task, tasks, chunksize=max(1, runs // (8 * processes)))


def _decided(found: list[Run], test: str) -> float:
    """Part of the runs in which a test rejected."""
    return sum(getattr(run, test) is not None for run in found) / len(found)


def _median(found: list[Run], test: str) -> float | None:
    """Median units at which a test rejected, None where it did in fewer than half of the runs."""
    units = [getattr(run, test) for run in found]
    middle = statistics.median(math.inf if one is None else one for one in units)
    return None if math.isinf(middle) else middle


def _about(case: Case) -> dict[str, object]:
    shares = [share for share, _ in case.epochs]
    return {"control": case.control, "treatment": case.treatment, "shares": shares}


def _print(console: Console, title: str, rows: list[dict[str, object]]) -> None:
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)


def main() -> None:
    """Simulate every case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--units", type=int, default=20_000, help="of a run under the null")
    parser.add_argument("--every", type=int, default=50, help="units between looks")
    parser.add_argument("--longest", type=int, default=60_000, help="units of a run with a difference")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    console, start = Console(width=120), time.perf_counter()
    alarms: list[dict[str, object]] = []
    power: list[dict[str, object]] = []
    whole = [((share, math.inf),) for share in (0.5, 0.05)]
    nulls = [Case(rate, rate, epochs) for epochs in (*whole, RAMP) for rate in (0.005, 0.02, 0.1)]
    looks = np.arange(options.every, options.units + 1, options.every)
    for case, runs in rows(nulls, looks, options.runs, options.processes):
        once = sum(run.last for run in runs) / options.runs
        alarms.append({**_about(case), **{test: _decided(runs, test) for test in TESTS}, "z_once": once})
        console.print(f"{time.perf_counter() - start:.0f} s", alarms[-1])
    pairs = ((0.02, 0.01), (0.1, 0.05), (0.01, 0.005))
    different = [Case(*pair, epochs) for epochs in (*whole, RAMP) for pair in pairs]
    different.insert(len(pairs), Case(0.02, 0.015, whole[0]))
    looks = np.arange(options.every, options.longest + 1, options.every)
    for case, runs in rows(different, looks, options.runs, options.processes):
        medians = {test: _median(runs, test) for test in TESTS[:2]}
        decided = {f"{test}_decided": _decided(runs, test) for test in medians}
        power.append({**_about(case), **medians, **decided})
        console.print(f"{time.perf_counter() - start:.0f} s", power[-1])
    _print(console, f"False alarms, looking every {options.every} of {options.units} units", alarms)
    _print(console, f"Median units to reject equal rates, looking every {options.every} of {options.longest}", power)
    about = {"runs": options.runs, "every": options.every, "units": options.units, "longest": options.longest}
    print(json.dumps({**about, "seconds": round(time.perf_counter() - start), "alarms": alarms, "power": power}))  # noqa: T201


if __name__ == "__main__":
    main()
