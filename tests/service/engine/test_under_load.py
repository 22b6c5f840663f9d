"""A thousand masks used at random, and a thousand clients that go away in the middle: nothing is mixed up or left."""

from __future__ import annotations

import asyncio
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import masks
from tests.service.engine.random_masks import ALPHA, random_mask
from tests.service.server import ADMIN, Server

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of its own: a thousand masks would be in the way of other tests."""
    folder = tmp_path_factory.mktemp("load")
    masks.save(ALPHA, folder / "alpha.safetensors")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("EXCISE_MAX_ADMIN_CALLS", "100000")
        started = Server(folder, "--max-resident-masks", "8").wait()
    try:
        yield started
        assert started.stop() == 0
    finally:
        started.kill()


def metric(http: httpx.Client, name: str) -> float:
    samples = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", http.get("/metrics").text, re.MULTILINE)
    return sum(map(float, samples))


def test_a_thousand_masks_used_at_random_are_all_served_right(server):
    made = [random_mask("many", 1000 + i, 100) for i in range(1000)]
    with server.client() as http, ThreadPoolExecutor(8) as pool:
        registered = list(pool.map(lambda mask: http.post("/masks", content=masks.dumps(mask)), made))
        assert {answer.status_code for answer in registered} == {201}
        model = {answer.json()["digest"]: answer.json()["model"] for answer in registered}

        def ask(mask: masks.Mask) -> tuple[str, list[float]]:
            body = {"model": model[mask.digest], "prompt": "The", "max_tokens": 6, "temperature": 0, "logprobs": 1}
            answer = http.post("/v1/completions", json=body)
            logprobs = answer.json()["choices"][0]["logprobs"]["token_logprobs"]
            return answer.headers["x-excise-digest"], [round(logprob, 4) for logprob in logprobs]

        used = random.Random(0).choices(made, k=200)
        together = list(pool.map(ask, used))
        assert [digest for digest, _ in together] == [mask.digest for mask in used]
        assert len({str(logprobs) for _, logprobs in together}) > 150
        assert [ask(mask) for mask in used[:40]] == together[:40]
        assert metric(http, "excise_masks_resident") == 8
        assert metric(http, "excise_mask_evictions_total") > 100
        assert metric(http, "excise_mask_load_seconds_count") == 1000


def open_files(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def resident_memory(server: Server) -> int:
    """Of the API process, KiB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{server.process.pid}/status").read_text())[1])


async def go_away(server: Server, times: int, masks_in_use: int) -> None:
    """Ask for streams, read the first bytes of each, and leave."""

    async def one(client: httpx.AsyncClient, i: int) -> None:
        body = {"model": f"demo:many@{1 + i % masks_in_use}", "prompt": f"{i} The", "max_tokens": 200, "stream": True}
        async with client.stream("POST", "/v1/completions", json={**body, "ignore_eos": True}) as answer:
            assert answer.status_code == 200
            async for _ in answer.aiter_raw():
                break

    limits = httpx.Limits(max_connections=16)
    headers = {"Authorization": f"Bearer {ADMIN}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=120, limits=limits) as client:
        for start in range(0, times, 50):
            await asyncio.gather(*(one(client, i) for i in range(start, start + 50)))


def test_a_thousand_clients_that_go_away_in_mid_stream_leave_nothing_behind(server):
    with server.client() as http:
        if not http.get("/masks/many").is_success:
            for i in range(12):
                http.post("/masks", content=masks.dumps(random_mask("many", 1000 + i, 100)))
        counted = metric(http, "excise_responses_total")
        asyncio.run(go_away(server, 200, 12))  # whatever grows once has grown now
        files, memory = open_files(server), resident_memory(server)
        asyncio.run(go_away(server, 800, 12))
        deadline = time.monotonic() + 30
        busy = ("vllm:num_requests_running", "excise_scoring_queue_depth")
        while any(metric(http, name) for name in busy) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert metric(http, "vllm:num_requests_running") == 0
        assert metric(http, "vllm:num_requests_waiting") == 0
        assert metric(http, "vllm:kv_cache_usage_perc") == 0
        assert metric(http, "excise_scoring_queue_depth") == 0
        assert metric(http, "excise_responses_total") < counted + 900, "hardly any was cut off"
        assert open_files(server) <= files + 5
        assert resident_memory(server) < memory + 30_000
        answer = http.post("/v1/completions", json={"model": "demo:many@3", "prompt": "The", "max_tokens": 3})
        assert answer.headers["x-excise-mask"] == "many@3"
