"""The cases of the serving benchmark: which servers, under which load. Each yields results, ready for JSON."""

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import latency, random_llama
from benchmarks.comparison import Side, compare, spread
from benchmarks.latency import BASE, under
from benchmarks.load import Load, Target
from benchmarks.random_llama import Shape
from benchmarks.servers import NAME, Server, running

PLAIN = (Target(NAME),)


@dataclass(frozen=True)
class Bench:
    """What every case has: a model, room for files, and the options."""

    model: Path
    folder: Path
    shape: Shape
    options: argparse.Namespace

    @property
    def load(self) -> Load:
        """What the clients send."""
        asked = self.options
        return Load(asked.clients, asked.requests, asked.tokens_in, asked.tokens_out, self.shape.vocabulary)

    @property
    def vllm(self) -> list[str]:
        """The options of vLLM that every server gets."""
        length = str(self.options.tokens_in + self.options.tokens_out + 8)
        return ["--dtype", self.options.dtype, "--max-model-len", length, *["--enforce-eager"] * self.options.eager]

    def masks(self, count: int) -> dict[str, Path]:
        """`count` new files of random masks, in a folder of their own."""
        folder = self.new("masks")
        folder.mkdir()
        return random_llama.mask_files(self.model, folder, count)

    def new(self, name: str) -> Path:
        """A path that is not taken."""
        return self.folder / f"{name}-{sum(1 for _ in self.folder.iterdir())}"

    def server(self, *options: str, plain: bool = False) -> Server:
        """A server that is starting, which the caller has to stop."""
        return Server(self.model, self.new("server"), *self.vllm, *options, plain=plain)

    @contextmanager
    def pair(self, *options: str, plain: bool = False) -> Iterator[tuple[Server, Server]]:
        """Plain vLLM, and beside it a server with these options."""
        with ExitStack() as stack:
            first = stack.enter_context(running(self.model, self.new("server"), *self.vllm, plain=True))
            other = running(self.model, self.new("server"), *self.vllm, *options, plain=plain)
            yield first, stack.enter_context(other)


def throughput(bench: Bench) -> Iterator[dict[str, Any]]:
    """Everything on and nothing masked, a mask at load, masks per request, the same masks as adapters."""
    files = bench.masks(bench.options.masks)
    folders = random_llama.adapters(bench.model, bench.new("adapters"), files)
    adapters = ["--enable-lora", "--max-loras", str(len(folders)), "--max-lora-rank", "8"]
    adapters += ["--lora-target-modules", "down_proj", "--lora-modules", *(f"{k}={v}" for k, v in folders.items())]
    ((name, file),) = bench.masks(1).items()
    with bench.pair("--max-resident-masks", str(len(files))) as (plain, excise), ExitStack() as stack:
        baked = stack.enter_context(running(bench.model, bench.new("server"), *bench.vllm, "--mask", str(file)))
        lora = stack.enter_context(running(bench.model, bench.new("server"), *bench.vllm, *adapters, plain=True))
        for each in files.values():
            excise.register(each)
        sides = [
            Side("plain", plain, PLAIN),
            Side("idle", excise, (dataclasses.replace(BASE, model=NAME),)),
            Side("baked", baked, (Target(NAME, f"{name}@1"),)),
            Side("masked", excise, tuple(map(under, files))),
            Side("lora", lora, tuple(map(Target, folders))),
        ]
        note = "on a CPU vLLM does not compile a model that takes adapters; see compilation"
        yield compare(sides, bench.load, bench.options.rounds) | {"note": note}


def scaling(bench: Bench) -> Iterator[dict[str, Any]]:
    """More and more masks in use, with room for some and for all."""
    counts = (1, 2, 4) if bench.options.smoke else (1, 4, 16, 64)
    for room in counts[-2:]:
        files = bench.masks(counts[-1])
        targets = tuple(map(under, files))
        with bench.pair("--max-resident-masks", str(room)) as (plain, excise):
            for file in files.values():
                excise.register(file)
            sides = [Side("plain", plain, PLAIN), *(Side(f"{n}_masks", excise, targets[:n]) for n in counts)]
            yield compare(sides, bench.load, bench.options.rounds) | {"max_resident_masks": room}


def latencies(bench: Bench) -> Iterator[dict[str, Any]]:
    """A new mask, a new route."""
    probes = bench.options.probes
    files = list(bench.masks(2 * probes).items())
    with running(bench.model, bench.new("server"), *bench.vllm) as server:
        parts = [dict(files[:probes]), dict(files[probes:])]
        milliseconds = latency.measure(server, parts, bench.options.crowd, bench.load)
        yield {"milliseconds": milliseconds, "compilation": {"excise": server.compilation()}}


def memory(bench: Bench) -> Iterator[dict[str, Any]]:
    """Bytes of the gate tables, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.tables", str(bench.model)]
    command += ["--slots", str(bench.options.masks), "--dtype", bench.options.dtype]
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if run.returncode:
        raise RuntimeError(f"no tables: {run.stderr[-3000:]}")
    yield json.loads(run.stdout)


def loading(bench: Bench) -> Iterator[dict[str, Any]]:
    """Time to load a mask along with the model."""
    ((_, file),) = bench.masks(1).items()
    kinds = {"plain": ((), True), "baked": (("--mask", str(file)), False)}
    ready: dict[str, list[float]] = {name: [] for name in kinds}
    weights: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(bench.options.rounds + 1):
        for name in list(kinds)[:: 1 if number % 2 else -1]:
            options, plain = kinds[name]
            server = bench.server(*options, plain=plain)
            try:
                seconds = server.wait()
                if number:
                    ready[name].append(seconds)
                    weights[name].append(server.loading_weights())
            finally:
                server.stop()
    ratios = [one / other for one, other in zip(ready["baked"], ready["plain"], strict=True)]
    yield {
        "seconds_to_ready": {name: spread(each) for name, each in ready.items()},
        "seconds_loading_weights": {name: spread(each) for name, each in weights.items()},
        "ratio_to_ready": spread(ratios),
    }


CASES = {
    "throughput": throughput,
    "latency": latencies,
    "scaling": scaling,
    "memory": memory,
    "load": loading,
}
