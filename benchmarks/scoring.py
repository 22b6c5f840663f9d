"""Scoring: how much one core scores, what the event loop pays, and what inference pays; prints one JSON line a case.

    python -m benchmarks.scoring [--case rate loop inference …] [--responses 20000] [--tokens 200] [--out FILE]

Texts are cut from the demo's own data, 200 tokens of the demo model's each.

- `rate`: the offline scorer, one worker; this process and the worker have one core between them. `most`: responses a
  second with the queue never empty. `steady`: 500 a second for some seconds: seconds from `put` to the score, processor
  time of the worker and of this process over the time that passed, and how many went unscored.
- `loop`: microseconds a response on the thread of the event loop: scored, sampled out, and dropped by a full queue.
- `inference`: needs vLLM. Three servers with the demo model: `--scorer none`, the default scorer, and a scorer that
  computes `--cost` seconds of processor time a response, so that it never keeps up and its process never rests. They
  take turns under load as in `serving`; throughput is compared within a round.
"""

import argparse
import asyncio
import gc
import itertools
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import uvloop

from benchmarks import busy
from benchmarks.comparison import Side, compare
from benchmarks.load import Load, Target
from benchmarks.servers import NAME, TICKS, end_on_termination, running
from service.scoring.queue import ScoringQueue
from service.scoring.response import Response, Scored

DEMO = Path(__file__).resolve().parents[1] / "demo"
ARRIVALS = 500
"""A second, of the steady load."""


def responses(count: int, tokens: int) -> list[Response]:
    """Responses of the demo's own words."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(DEMO / "model", model_max_length=10**9)
    lines = [json.loads(line) for path in sorted(DEMO.glob("data/*.jsonl")) for line in path.open()]
    text = " ".join(value for line in lines for value in line.values() if isinstance(value, str))
    ids = tokenizer(text)["input_ids"]
    pieces = [ids[start : start + tokens] for start in range(0, len(ids) - tokens, tokens)]
    cut = [(str(tokenizer.decode(piece)), piece) for piece in pieces]
    return [Response("base", said, list(piece)) for said, piece in itertools.islice(itertools.cycle(cut), count)]


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far (proc(5): utime is field 14, stime 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Line:
    """A queue with one worker that is ready, and when each of its responses was scored."""

    def __init__(self, capacity: int, **options: Any) -> None:
        self.scored: list[tuple[float, Scored]] = []
        self.queue = ScoringQueue("profanity", capacity, on_scored=self.heard, drain=60, **options)

    def heard(self, scored: Scored) -> None:
        """Note when it came."""
        self.scored.append((time.perf_counter(), scored))

    async def ready(self, sample: Response) -> None:
        """Start, and wait for a first score."""
        self.queue.start()
        self.queue.put(sample)
        await self.until(1)
        self.scored.clear()

    async def until(self, count: int) -> None:
        """Wait until that many came back."""
        while len(self.scored) < count:
            await asyncio.sleep(0.005)


async def most(given: Sequence[Response]) -> dict[str, float]:
    """Responses a second with the queue never empty."""
    line = Line(len(given))
    await line.ready(given[0])
    for response in given[:2000]:  # batches grow to their size
        line.queue.put(response)
    await line.until(2000)
    line.scored.clear()
    (worker,) = line.queue.pids
    began, cpu, ours = time.perf_counter(), cpu_seconds(worker), time.process_time()
    for response in given:
        line.queue.put(response)
    await line.until(len(given))
    seconds = time.perf_counter() - began
    cpu, ours = cpu_seconds(worker) - cpu, time.process_time() - ours
    await line.queue.close()
    return {
        "responses_per_second": round(len(given) / seconds),
        "worker_microseconds": round(cpu / len(given) * 1e6, 1),
        "server_process_microseconds": round(ours / len(given) * 1e6, 1),
    }


async def steady(given: Sequence[Response]) -> dict[str, float]:
    """A steady load: how soon the scores come, and what they cost."""
    line = Line(10_000)
    await line.ready(given[0])
    (worker,) = line.queue.pids
    put: dict[int, float] = {}
    began, cpu, ours = time.perf_counter(), cpu_seconds(worker), time.process_time()
    for number, response in enumerate(given):
        if (early := began + number / ARRIVALS - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        put[id(response)] = time.perf_counter()
        line.queue.put(response)
    await line.until(len(given))
    seconds = time.perf_counter() - began
    cpu, ours = cpu_seconds(worker) - cpu, time.process_time() - ours
    await line.queue.close()
    waits = [at - put[id(scored.response)] for at, scored in line.scored]
    p50, p99 = np.percentile(waits, (50, 99))
    return {
        "arrivals_per_second": ARRIVALS,
        "seconds": round(seconds, 1),
        "unscored": sum(scored.toxicity is None for _, scored in line.scored),
        "seconds_to_score_p50": round(float(p50), 3),
        "seconds_to_score_p99": round(float(p99), 3),
        "worker_cpu": round(cpu / seconds, 3),
        "server_process_cpu": round(ours / seconds, 3),
    }


async def on_the_loop(given: Sequence[Response], **options: Any) -> float:
    """Microseconds on the event loop's thread for each response, from `put` to `on_scored`."""
    line = Line(options.pop("capacity", len(given)), **options)
    if options.get("rate", 1) > 0:
        await line.ready(given[0])
    gc.collect()
    gc.freeze()  # as vLLM does; a full collection of what this program holds would be counted else
    began = time.thread_time()
    for response in given:
        line.queue.put(response)
    while len(line.scored) < len(given) - 1:  # waiting is cheap, and counts
        await asyncio.sleep(0.05)
    spent = time.thread_time() - began
    await line.queue.close()
    return spent / len(given) * 1e6


def rate(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The offline scorer on one core."""
    given = responses(options.responses, options.tokens)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        rounds = [uvloop.run(most(given)) for _ in range(options.rounds)]
        rates = [each["responses_per_second"] for each in rounds]
        middle = min(rounds, key=lambda each: abs(each["responses_per_second"] - statistics.median(rates)))
        few = given[: int(ARRIVALS * options.seconds)]
        yield {"most": middle, "most_each_round": rates, "steady": uvloop.run(steady(few))}
    finally:
        os.sched_setaffinity(0, cores)


def loop(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The event loop's share."""
    given = responses(options.responses, options.tokens)
    kinds: dict[str, dict[str, Any]] = {"scored": {}, "sampled_out": {"rate": 0.0}, "dropped": {"capacity": 1}}
    microseconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(options.rounds):
        for kind, asked in kinds.items():
            with ThreadPoolExecutor(1) as thread:  # a thread of its own, so that its time is the loop's alone
                microseconds[kind].append(thread.submit(asyncio.run, on_the_loop(given, **asked)).result())
    yield {"microseconds": {kind: round(statistics.median(each), 2) for kind, each in microseconds.items()}}


def inference(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What inference pays."""
    config = json.loads((DEMO / "model" / "config.json").read_text())
    asked = Load(options.clients, options.requests, options.tokens_in, options.tokens, config["vocab_size"])
    length = str(options.tokens_in + options.tokens + 8)
    vllm = ("--dtype", "float32", "--max-model-len", length)
    with TemporaryDirectory() as name:
        folder = Path(name)
        busy.install(folder / "packages", options.cost)
        os.environ["PYTHONPATH"] = f"{folder / 'packages'}:{os.environ.get('PYTHONPATH', '')}"
        target = (Target(NAME, "base"),)
        with (
            running(DEMO / "model", folder / "none", *vllm, "--scorer", "none") as none,
            running(DEMO / "model", folder / "default", *vllm) as default,
            running(DEMO / "model", folder / "busy", *vllm, "--scorer", "busy") as never,
        ):
            sides = [Side("none", none, target), Side("default", default, target), Side("saturated", never, target)]
            yield compare(sides, asked, options.rounds)


CASES = {"rate": rate, "loop": loop, "inference": inference}


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    parser.add_argument("--responses", type=int, default=20_000, help="of a round of the cases rate and loop")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the steady load")
    parser.add_argument("--tokens", type=int, default=200, help="of a response")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cost", type=float, default=0.1, help="processor seconds a response of the saturated scorer")
    parser.add_argument("--clients", type=int, default=16, help="of the case inference")
    parser.add_argument("--requests", type=int, default=192, help="of a round of it, besides the first of each client")
    parser.add_argument("--tokens-in", type=int, default=32, help="of a prompt of it")
    parser.add_argument("--out", type=Path, help="file that the lines are added to as well")
    return parser.parse_args()


def main() -> None:
    """Run the cases and print a line for each of their results."""
    options = parsed()
    end_on_termination()
    for case in options.case:
        for result in CASES[case](options):
            about = {"responses": options.responses, "tokens": options.tokens, "cores": os.cpu_count()}
            line = json.dumps({"benchmark": "scoring", "case": case, **result, **about})
            print(line, flush=True)  # noqa: T201
            if options.out:
                with options.out.open("a") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    main()
