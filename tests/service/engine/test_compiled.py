"""A server that starts again uses what it compiled before: it starts faster, and answers the same, masks included."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import masks
from tests.forked import Forked
from tests.service.engine.random_masks import ALPHA, BETA
from tests.service.server import MODEL, Server

LAYER = """
import json, sys
import torch
from vllm.compilation.decorators import support_torch_compile
from vllm.config import CompilationConfig, VllmConfig, set_current_vllm_config
from vllm.forward_context import set_forward_context

@support_torch_compile
class Layer(torch.nn.Module):
    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.linear(x)) * 2

if __name__ == "__main__":
    if sys.argv[1] == "excise":
        from service.engine import vllm_names
        from service.engine.resident_masks import ResidentMasks
        vllm_names.install(ResidentMasks)
    config = VllmConfig(compilation_config=CompilationConfig(mode=2, backend="inductor"))  # as vLLM has it on a CPU
    torch.manual_seed(int(sys.argv[2]))
    with set_current_vllm_config(config), torch.inference_mode(), set_forward_context({}, vllm_config=config):
        layer, x = Layer(vllm_config=config), torch.arange(24.0).reshape(3, 8)
        found = layer(x), layer(x.repeat(2, 1))[3:]
        wanted = torch.relu(layer.linear(x)) * 2
        right = all(torch.allclose(one, wanted) for one in found)
    print("FOUND" + json.dumps([layer.was_aot_compile_fn_loaded_from_disk, right, float(wanted.sum())]))
"""
"""A layer that vLLM compiles as it does a model's."""

LOADED, AGAIN = "Directly load AOT compilation", "Compiling model again"


def compiled(folder, side: str, seed: int) -> tuple[bool, bool, float, str]:
    """Run the layer with weights of ``seed``: was its code read, is what it answers right, their sum, and the log."""
    log = folder / f"{side}-{seed}.log"
    environment = {"VLLM_CACHE_ROOT": str(folder / "cache"), "VLLM_PLUGINS": ""}
    process = Forked(run_layer, (folder, side, seed), log, log, environment)
    process.wait(600)
    said = log.read_text()
    assert "FOUND" in said, said[-2000:]
    return (*json.loads(said.partition("FOUND")[2].splitlines()[0]), said)


def run_layer(folder: Path, side: str, seed: int) -> None:
    sys.argv = ["layer.py", side, str(seed)]
    runpy.run_path(str(folder / "layer.py"), run_name="__main__")


def test_vllm_compiles_again_what_it_has_compiled_for_a_cpu_and_with_excise_it_does_not(tmp_path):
    (tmp_path / "layer.py").write_text(LAYER)
    sums = []
    for side, seed, read in (("plain", 1, False), ("plain", 1, False), ("excise", 1, True), ("excise", 2, True)):
        loaded, right, total, log = compiled(tmp_path, side, seed)
        assert (loaded, right) == (read, True), log
        sums.append(total)
    assert sums[0] == sums[1] == sums[2] != sums[3], "the weights are no part of what was compiled"


def few_weights() -> masks.Mask:
    """Three rows of a matrix, which a low-rank product takes off."""
    rows, columns = masks.parameters(MODEL)["model.layers.1.mlp.down_proj.weight"].shape
    flat = np.concatenate([np.arange(0, columns, 3) + row * columns for row in (1, 5, rows - 1)])
    return masks.for_model(MODEL, "weights", weights={"model.layers.1.mlp.down_proj.weight": flat})


MADE = (ALPHA, BETA, few_weights())


def answers(server: Server) -> list[list[float]]:
    """Log-probabilities of the base model's tokens and of each mask's."""
    with server.client() as http:
        for mask in MADE:
            assert http.post("/masks", content=masks.dumps(mask)).is_success
        logprobs = []
        for model in ("demo", *(f"demo:{mask.meta.name}" for mask in MADE)):
            body = {"model": model, "prompt": "The weather in", "max_tokens": 24, "temperature": 0, "logprobs": 1}
            answer = http.post("/v1/completions", json={**body, "ignore_eos": True})
            assert answer.status_code == 200, answer.text
            logprobs.append(answer.json()["choices"][0]["logprobs"]["token_logprobs"])
        return logprobs


@pytest.mark.engine
def test_a_second_start_compiles_nothing_and_answers_bit_for_bit_the_same(tmp_path, monkeypatch, request):
    if not request.config.getoption("--full"):
        pytest.skip("compiles a whole model, for minutes: --full; a layer of its own is tested above")
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path / "cache"))
    logprobs, logs = [], []
    for _ in range(2):
        server = Server(tmp_path, eager=False).wait(900)
        try:
            logprobs.append(answers(server))
            logs.append(server.log.read_text(errors="replace"))
            assert server.stop() == 0
        finally:
            server.kill()
    assert LOADED not in logs[0]
    assert "saved AOT compiled function" in logs[0]
    assert LOADED in logs[1]
    assert AGAIN not in logs[1]
    assert logprobs[0] == logprobs[1]
    assert len({str(each) for each in logprobs[0]}) == len(logprobs[0]), "the masks change nothing"
