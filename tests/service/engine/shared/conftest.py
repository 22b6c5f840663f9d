"""Engines are slow to start: the tests of this folder share three, started side by side, until its last test."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

import masks
from tests.service.engine.families import crowded
from tests.service.engine.random_masks import ALPHA, BETA
from tests.service.server import MODEL, READER, Server


def edit_by_hand(folder, mask):
    """A copy of the checkpoint with the mask's columns multiplied by plain indexing: no code of Excise's own."""
    shutil.copytree(MODEL, folder)
    with safe_open(MODEL / "model.safetensors", "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    for layer, neurons in mask.neurons.items():
        for neuron, gate in zip(neurons.tolist(), mask.gate_values("neurons", layer).tolist(), strict=True):
            tensors[f"model.layers.{layer}.mlp.down_proj.weight"][:, neuron] *= gate
    for layer, heads in mask.heads.items():
        for head, gate in zip(heads.tolist(), mask.gate_values("heads", layer).tolist(), strict=True):
            tensors[f"model.layers.{layer}.self_attn.o_proj.weight"][:, head * 32 : head * 32 + 32] *= gate
    save_file(tensors, folder / "model.safetensors", metadata=metadata)
    return folder


@dataclass(frozen=True)
class Engines:
    gated: Server
    """Masks per request. Its model's folder, and the next one's, holds more than the model."""
    baked: Server
    """Loaded with --mask ALPHA."""
    plain: Server
    """vLLM without Excise, on a checkpoint edited by hand as BETA says."""


@pytest.fixture(scope="package")
def engines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    masks.save(ALPHA, folder / "alpha.safetensors")
    edited = edit_by_hand(folder / "edited", BETA)
    crowd = crowded(MODEL, folder / "crowded")
    for name in ("gated", "baked", "plain"):
        (folder / name).mkdir()
    started = Engines(
        Server(folder / "gated", "--api-key", READER, model=crowd, spawned=True),
        Server(folder / "baked", "--mask", str(folder / "alpha.safetensors"), model=crowd),
        Server(folder / "plain", model=edited, plain=True),
    )
    servers = [started.gated, started.baked, started.plain]
    try:
        for server in servers:
            server.wait()
        yield started
        codes = [server.stop() for server in servers]
        assert codes[:2] == [0, 0], codes
    finally:
        for server in servers:
            server.kill()


@pytest.fixture(scope="package")
def gated(engines):
    """The shared server with gates, ALPHA and BETA registered."""
    with engines.gated.client() as client:
        for mask in (ALPHA, BETA):
            assert client.post("/masks", content=masks.dumps(mask)).status_code == 201
    return engines.gated
