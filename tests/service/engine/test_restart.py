"""A server killed outright in the middle of registrations comes back with every mask, and none by half."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

import masks
from tests.service.engine.random_masks import random_mask
from tests.service.server import Server

pytestmark = pytest.mark.engine


def test_sigkill_in_the_middle_of_post_masks(tmp_path):
    server = Server(tmp_path, spawned=True).wait()
    acknowledged: dict[str, str] = {}
    first = threading.Event()

    def register() -> None:
        with server.client() as client:
            for i in range(10_000):
                mask = random_mask("storm", i, 50)
                try:
                    answer = client.post("/masks", content=masks.dumps(mask))
                except httpx.HTTPError:
                    return
                assert answer.status_code == 201, answer.text
                acknowledged[mask.digest] = answer.json()["model"]
                first.set()

    try:
        with server.client() as client:
            thread = threading.Thread(target=register)
            thread.start()
            assert first.wait(30)
            client.put("/route", json={"target": "storm@1"})
            time.sleep(0.5)
            server.process.kill()  # the engine and the scorer are left to notice by themselves
            thread.join(30)
            deadline = time.monotonic() + 20
            while server.alive() and time.monotonic() < deadline:
                time.sleep(0.1)
        assert len(acknowledged) > 3
        assert server.alive() == []
        for path in (tmp_path / "store" / "masks").glob("*.safetensors"):
            assert masks.load(path).digest == path.stem

        again = Server(tmp_path, "--max-resident-masks", "1").wait()
        try:
            with again.client() as client:
                listed = client.get("/masks", params={"limit": 1000}).json()["data"]
                assert acknowledged.items() <= {mask["digest"]: mask["model"] for mask in listed}.items()
                assert client.get("/route").json()["target"] == "storm@1"
                answer = client.post("/v1/completions", json={"prompt": "The", "max_tokens": 2})
                assert answer.headers["x-excise-mask"] == "storm@1"
                newest = listed[-1]
                answer = client.post(
                    "/v1/completions", json={"model": newest["model"], "prompt": "The", "max_tokens": 2}
                )
                assert answer.headers["x-excise-digest"] == newest["digest"]
                crowd_out_each_other(client, [mask["model"] for mask in listed[:6]])
            assert again.stop() == 0
        finally:
            again.kill()
    finally:
        server.kill()


def crowd_out_each_other(client: httpx.Client, models: list[str]) -> None:
    """With room for one mask, registrations and requests at once are all answered, and rightly."""

    def ask(i: int) -> tuple[int, str]:
        if i % 4 == 3:
            mask = random_mask("crowd", i, 30)
            return client.post("/masks", content=masks.dumps(mask)).status_code, f"crowd {i}"
        body = {"model": models[i % len(models)], "prompt": "The", "max_tokens": 4}
        answer = client.post("/v1/completions", json=body)
        assert answer.json()["model"] == body["model"]
        return answer.status_code, str(answer.headers.get("x-excise-mask"))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(32)))
    assert [status for status, _ in answers] == [201 if i % 4 == 3 else 200 for i in range(32)], answers
