"""Exactness inside one process: every model family, eager and compiled, with everything that a scheduler may do.

The engine under test answers a mixed load; a plain one, with the mask cut into its checkpoint by hand, gets the same
requests in the same order (see ``exact``). Their tokens and logprobs must be the same to the last bit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch

import masks
from tests.forked import ROOT, Forked
from tests.service.engine import exact
from tests.service.engine.families import FAMILIES, VOCABULARY, drawn, edited, make

pytestmark = pytest.mark.engine

# Prefixes are shared (blocks of 32 tokens), prompts come in chunks (64 tokens a step), and requests are preempted (few
# blocks for many requests).
CROWDED = {"block_size": 32, "max_num_batched_tokens": 64, "max_num_seqs": 16, "num_gpu_blocks_override": 28}
CUDA = {} if not torch.cuda.is_available() else {"gpu_memory_utilization": 0.3}


@dataclass(frozen=True, eq=False)
class Case:
    """A gated engine and the plain ones that it is compared with."""

    family: str
    options: dict
    dtype: str = "float32"
    kinds: tuple[str, ...] = ("mixed",)
    full: bool = False

    def __str__(self) -> str:
        mode = "eager" if self.options["enforce_eager"] else "compiled"
        return f"{self.family}-{mode}-{self.dtype}-{'-'.join(self.kinds)}"


EAGER, COMPILED = {**CROWDED, "enforce_eager": True}, {**CROWDED, "enforce_eager": False}
CASES = [
    Case("llama", EAGER, kinds=("mixed", "layer", "nothing", "dampened")),
    *(Case(family, EAGER) for family in FAMILIES if family not in ("llama", "qwen3")),
    Case("llama", EAGER, "bfloat16", kinds=("mixed", "dampened")),
    Case("mistral", EAGER, kinds=("weights", "more-weights")),
    Case("qwen3", COMPILED, kinds=("dampened", "weights")),
    Case("mistral", COMPILED, kinds=("weights", "more-weights"), full=True),
    Case("qwen3", EAGER, full=True),
    *(Case(family, COMPILED, full=True) for family in FAMILIES),
    *(Case(family, EAGER, "bfloat16", full=True) for family in FAMILIES if family != "llama"),
    Case("llama", COMPILED, "bfloat16", full=True),
]


def mask_of(kind: str, model) -> masks.Mask:
    geometry = masks.describe(model).geometry
    if kind in ("mixed", "dampened"):
        return drawn(model, kind, 1, neurons=0.3, heads=2, dampened=kind == "dampened")
    if kind.endswith("weights"):  # single weights, in the second also neurons and heads, some of them dampened
        more = kind != "weights"
        return drawn(model, kind, 4, neurons=0.1 * more, heads=int(more), weights=20, dampened=more)
    if kind == "layer":  # cuts everything in a layer
        everything = {1: list(range(geometry.neurons))}
        return masks.for_model(model, "layer", neurons=everything, heads={1: list(range(geometry.heads))})
    return masks.for_model(model, "nothing")


def answered(specs: list[dict], folder, *, may_fail: bool = False, **environment: str) -> list[list[dict]]:
    """Run the program ``exact``: the results of each engine, or of those before the one that failed."""
    (folder / "spec.json").write_text(json.dumps(specs))
    settings = {"VLLM_PLUGINS": "excise", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    settings |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}  # on any core, beside other tests
    out, log = folder / "results.jsonl", folder / "log.txt"
    environment = {**settings, "PYTHONWARNINGS": "default", **environment}
    arguments = str(folder / "spec.json"), str(out)
    if CUDA:  # which may not have been touched before a fork
        command = [sys.executable, "-m", "tests.service.engine.exact", *arguments]
        with log.open("w") as file:
            run = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=file, stderr=file)
    else:
        run = Forked(exact.run_all, arguments, log, log, environment)
    try:
        code = run.wait(3600)
    finally:
        run.kill()
    assert may_fail or code == 0, log.read_text()[-3000:]
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def said(results: list[dict], variant: int) -> dict[tuple[int, str], list]:
    return {(one["prompt"], one["way"]): one["said"] for one in results if one.get("mask", -1) == variant}


def near(ours: dict, theirs: dict) -> float:
    """The largest difference of a logprob of the first greedy token; what is drawn later may differ."""
    worst = 0.0
    for key in (key for key in ours if key[1] == "greedy"):
        first, second = dict(ours[key][0][1][0]), dict(theirs[key][0][1][0])
        worst = max([worst, *(abs(first[token] - second[token]) for token in first.keys() & second.keys())])
    return worst


def specification(case: Case, folder) -> list[dict]:
    """The gated engine first, then a plain one for each mask."""
    model = make(case.family, folder / "model")
    made = [mask_of(kind, model) for kind in case.kinds]
    paths = [folder / f"{mask.digest}.safetensors" for mask in made]
    for mask, path in zip(made, paths, strict=True):
        masks.save(mask, path)
    load = {
        "vocabulary": VOCABULARY,
        "prompts": 9,
        "variants": len(made) + 1,
        "dtype": case.dtype,
        "options": case.options | CUDA,
        "slots": 1 if case.kinds[0] == "weights" else 4,
    }
    plain = [edited(model, mask, folder / f"by-hand-{mask.name}") for mask in made]
    return [
        {**load, "model": str(model), "masks": list(map(str, paths))},
        *({**load, "model": str(path), "masks": []} for path in plain),
    ]


@pytest.fixture(scope="module")
def results(request, tmp_path_factory):
    """Case → its engines' results. One process runs them all: to import vLLM takes longer than an engine does."""
    folder = tmp_path_factory.mktemp("families")
    specs = {}
    for number, case in enumerate(CASES):
        if request.config.getoption("--full") or not case.full:
            (folder / str(number)).mkdir()
            specs[case] = specification(case, folder / str(number))
    lines = iter(answered([spec for engines in specs.values() for spec in engines], folder))
    return {case: [next(lines) for _ in engines] for case, engines in specs.items()}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_row_equals_the_baked_models_bit_for_bit(case, results):
    if case not in results:
        pytest.skip("one of the combinations of --full")
    gated, *plain = results[case]
    counts, compiled = gated[-1]["counts"], gated[-1]["compiled"]
    assert counts["vllm:prefix_cache_hits"] > 0
    assert counts["vllm:num_preemptions"] > 0
    assert (compiled > 0) is not case.options["enforce_eager"]
    assert len(said(gated, 0)) == 27
    for variant, (kind, by_hand) in enumerate(zip(case.kinds, plain, strict=True), start=1):
        if kind.endswith("weights"):  # the same mathematics, rounded otherwise
            assert near(said(gated, variant), said(by_hand, variant)) < 1e-4
            assert near(said(gated, variant), said(gated, 0)) > 1e-2
            if case.kinds[0] == "weights":  # one slot for two masks
                assert gated[-1]["residency"][0]["evictions"] > 0
            continue
        assert by_hand[-1]["counts"] == counts, "another schedule"
        assert said(gated, variant) == said(by_hand, variant)
        if kind == "nothing":  # that plain engine is the base model
            assert said(gated, 0) == said(by_hand, 0)
        else:
            assert said(gated, variant) != said(gated, 0), "a mask that changes nothing proves nothing"
