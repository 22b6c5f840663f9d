"""The engine's process is killed: requests are told, the server ends with a code, and comes back with every mask."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time

import httpx
import pytest

import masks
from tests.service.engine.random_masks import ALPHA, random_mask
from tests.service.server import ADMIN, Server

pytestmark = pytest.mark.engine


def engine_of(server: Server) -> int:
    """The process that holds the engine."""
    for pid in server.alive():
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"EngineCore" in file.read():
                return pid
    raise AssertionError("no engine process")


def test_the_server_ends_soon_after_its_engine_and_a_new_one_serves_what_it_still_has(tmp_path):
    server = Server(tmp_path, spawned=True).wait()
    made = [ALPHA, *(random_mask("more", i) for i in range(5))]
    answers: list[tuple[int, str]] = []

    def ask() -> None:
        body = {"model": "demo:alpha", "prompt": "The", "max_tokens": 200, "ignore_eos": True, "n": 16}
        with server.client() as client:
            answer = client.post("/v1/completions", json=body)
            answers.append((answer.status_code, answer.json()["error"]["code"]))

    try:
        with server.client() as client:
            for mask in made:
                assert client.post("/masks", content=masks.dumps(mask)).status_code == 201
            asking = [threading.Thread(target=ask) for _ in range(4)]
            for thread in asking:
                thread.start()
            time.sleep(0.5)

            stalled = socket.create_connection(("127.0.0.1", server.port))
            stalled.sendall(b"POST /masks HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n")
            stalled.sendall(f"Authorization: Bearer {ADMIN}\r\n\r\nhalf of it".encode())
            os.kill(engine_of(server), signal.SIGKILL)
            killed = time.monotonic()
            red = False
            while server.process.poll() is None and time.monotonic() < killed + 10:
                try:
                    red |= client.get("/ready", timeout=2).status_code == 503
                    late = client.post("/v1/completions", json={"prompt": "x"}, timeout=2)
                    assert late.status_code == 503
                except httpx.TransportError:
                    pass
                time.sleep(0.05)
            code = server.process.poll()
            stalled.close()
        for thread in asking:
            thread.join(30)
        assert code not in (None, 0), (code, server.tail())
        assert red
        assert [status for status, _ in answers] == [503] * 4, answers
        assert {code for _, code in answers} == {"engine_died"}

        lost = made[2]
        (tmp_path / "store" / "masks" / f"{lost.digest}.safetensors").unlink()
        again = Server(tmp_path).wait()
        try:
            with again.client() as client:
                listed = {mask["digest"] for mask in client.get("/masks").json()["data"]}
                assert listed == {mask.digest for mask in made}
                answer = client.post("/v1/completions", json={"model": "demo:more@5", "prompt": "x", "max_tokens": 2})
                assert answer.headers["x-excise-digest"] == made[-1].digest
                refused = client.post("/v1/completions", json={"model": "demo:more@2", "prompt": "x"})
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "mask_not_resident")
                assert "register it again" in refused.json()["error"]["message"]
                assert client.post("/masks", content=masks.dumps(lost)).status_code == 200
                answer = client.post("/v1/completions", json={"model": "demo:more@2", "prompt": "x", "max_tokens": 2})
                assert answer.headers["x-excise-digest"] == lost.digest
        finally:
            assert again.stop() == 0
    finally:
        server.kill()
