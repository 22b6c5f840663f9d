"""A server that starts again uses what it compiled before: it starts faster, and answers the same, masks included."""

from __future__ import annotations

import numpy as np
import pytest

import masks
from tests.service.engine.conftest import ALPHA, BETA
from tests.service.server import MODEL, Server

pytestmark = pytest.mark.engine

LOADED, AGAIN = "Directly load AOT compilation", "Compiling model again"


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
        found = []
        for model in ("demo", *(f"demo:{mask.meta.name}" for mask in MADE)):
            body = {"model": model, "prompt": "The weather in", "max_tokens": 24, "temperature": 0, "logprobs": 1}
            answer = http.post("/v1/completions", json={**body, "ignore_eos": True})
            assert answer.status_code == 200, answer.text
            found.append(answer.json()["choices"][0]["logprobs"]["token_logprobs"])
        return found


def test_a_second_start_compiles_nothing_and_answers_bit_for_bit_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path / "cache"))
    found, logs = [], []
    for _ in range(2):
        server = Server(tmp_path, eager=False).wait(400)
        try:
            found.append(answers(server))
            logs.append(server.log.read_text(errors="replace"))
            assert server.stop() == 0
        finally:
            server.kill()
    assert LOADED not in logs[0]
    assert "saved AOT compiled function" in logs[0]
    assert LOADED in logs[1]
    assert AGAIN not in logs[1]
    assert found[0] == found[1]
    assert len({str(each) for each in found[0]}) == len(found[0]), "the masks change nothing"
