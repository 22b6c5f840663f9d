"""Start of `excise serve` against plain vLLM: seconds until it answers, cold and warm; prints one JSON line.

    python -m benchmarks.start [--model FOLDER] [--rounds 3] [--cold 3] [--dtype float32] [--out FILE]

- `cold`: with an empty cache, in the first `--cold` rounds. `warm`: started again at once,
  with the cache that the cold start left. `…_cpu`: processor seconds of all its processes, which other work beside the
  measurement changes less.
- `reused`: 1 where a warm start read compiled code from there, 0 where it compiled again.
- `tokens`: output tokens a second of a warm server, one request with `n` 16 and 96 tokens, after one like it.
- Sides, one server at a time: `plain`, `excise`, and both with `--enforce-eager`, which compile nothing. Every other
  round goes backwards; ratios are taken within a round. The first start of all does not count: it reads the disk.

Nothing is loaded but the model; the machine must rest, as a start keeps every core busy.
"""

import argparse
import json
import os
import platform
import shutil
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from benchmarks.comparison import spread
from benchmarks.servers import NAME, Server, end_on_termination
from benchmarks.serving import installed, instructions

SIDES = {"plain": (True, ()), "excise": (False, ()), "plain-eager": (True, ("--enforce-eager",)),
         "excise-eager": (False, ("--enforce-eager",))}  # fmt: skip
CHOICES, TOKENS = 16, 96
WARM = ("warm", "warm_cpu", "tokens", "reused")
Seconds = dict[tuple[str, str], list[float]]


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path(__file__).resolve().parents[1] / "demo" / "model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", type=int, default=3, help="rounds that begin with an empty cache")
    parser.add_argument("--sides", nargs="+", choices=tuple(SIDES), default=tuple(SIDES))
    parser.add_argument("--dtype", default="float32", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--out", type=Path, help="file that the line is added to as well")
    return parser.parse_args()


def speed(server: Server) -> float:
    """Output tokens a second of the second of two requests."""
    body = {"model": NAME, "prompt": "The", "n": CHOICES, "max_tokens": TOKENS, "ignore_eos": True, "temperature": 1}
    for seed in (1, 2):
        began = time.monotonic()
        httpx.post(f"{server.url}/v1/completions", json={**body, "seed": seed}, timeout=600).raise_for_status()
    return CHOICES * TOKENS / (time.monotonic() - began)


def started(options: argparse.Namespace, folder: Path, side: str, *, measured: bool) -> tuple[float, ...]:
    """Start a server; seconds and processor seconds until ready, its speed, and whether it read compiled code."""
    plain, more = SIDES[side]
    cache = folder / "cache" / side
    os.environ["XDG_CACHE_HOME"] = str(cache)  # where vLLM keeps compiled code
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache / "inductor")
    run = folder / f"{side}-{time.monotonic_ns()}"
    vllm = ["--dtype", options.dtype, "--max-model-len", "512", *more]
    server = Server(options.model, run, *vllm, plain=plain)
    try:
        seconds, cpu = server.wait(), server.cpu_seconds()
        reused = "Directly load AOT compilation" in server.log.read_text(errors="replace")
        return seconds, cpu, speed(server) if measured else 0.0, reused
    finally:
        server.stop()
        shutil.rmtree(run)


def measured(options: argparse.Namespace, folder: Path) -> Seconds:
    """All rounds: (side, `cold`, `warm` or `tokens`) → one figure a round."""
    figures: Seconds = defaultdict(list)
    started(options, folder, "plain-eager", measured=False)
    for number in range(options.rounds):
        for side in options.sides if number % 2 == 0 else reversed(options.sides):
            if number < options.cold or not (folder / "cache" / side).exists():
                shutil.rmtree(folder / "cache" / side, ignore_errors=True)
                seconds, cpu, *_ = started(options, folder, side, measured=False)
                figures[side, "cold"].append(seconds)
                figures[side, "cold_cpu"].append(cpu)
            for kind, value in zip(WARM, started(options, folder, side, measured=True), strict=True):
                figures[side, kind].append(value)
            print(side, {kind: values[-1] for (of, kind), values in figures.items() if of == side}, flush=True)  # noqa: T201
    return figures


def main() -> None:
    """Measure, and print the line."""
    options = parsed()
    end_on_termination()
    with TemporaryDirectory() as folder:
        figures = measured(options, Path(folder))
    result: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for (side, kind), values in figures.items():
        result[side][kind] = spread(values)
        base = figures.get((side.replace("excise", "plain"), kind), [])
        if "excise" in side and base and kind != "reused":
            result[side][f"{kind}_ratio"] = spread([ours / theirs for ours, theirs in zip(values, base, strict=True)])
    about = {"rounds": options.rounds, "dtype": options.dtype, "model": options.model.resolve().name}
    about |= {"cores": os.cpu_count(), "device": platform.machine(), "instructions": instructions(), **installed()}
    line = json.dumps({"benchmark": "start", **result, **about})
    print(line)  # noqa: T201
    if options.out:
        with options.out.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
