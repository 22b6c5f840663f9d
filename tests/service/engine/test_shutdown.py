"""A server told to end while it answers: everybody is served or told, outcomes are written, and it ends in time."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import dataclass, field

import httpx
import pytest

import masks
from service.experiments.outcomes import queries
from service.storage.database import Database
from tests.service.engine.random_masks import ALPHA
from tests.service.server import Server

pytestmark = pytest.mark.engine
N = 12
ENDING = "server_ending"


@dataclass
class Asked:
    """What a client got."""

    status: int = 0
    reasons: list[str] = field(default_factory=list)
    code: str = ""
    whole: bool = False


def ask(server: Server, asked: Asked, tokens: int, stream: bool) -> None:
    body = {"model": "demo", "prompt": "The", "n": N, "max_tokens": tokens, "ignore_eos": True, "stream": stream}
    with server.client() as http, http.stream("POST", "/v1/completions", json=body) as answer:
        asked.status = answer.status_code
        events = answer.iter_lines() if stream else [answer.read().decode()]
        for line in events:
            asked.whole |= line == "data: [DONE]" or not stream
            text = line.removeprefix("data: ")
            document = json.loads(text) if text.startswith("{") else {}
            asked.code = document.get("error", {}).get("code", asked.code)
            asked.reasons += [one["finish_reason"] for one in document.get("choices", ()) if one["finish_reason"]]


def busy(server: Server, tokens: int) -> tuple[list[Asked], list[threading.Thread]]:
    """Four clients that have been asking for a while, two of them for streams."""
    with server.client() as http:
        assert http.post("/masks", content=masks.dumps(ALPHA)).status_code == 201
        arms = [{"name": "a", "mask": "base", "weight": 1}, {"name": "b", "mask": "alpha@1", "weight": 1}]
        assert http.post("/experiments", json={"name": "ab", "variants": arms}).status_code == 201
        assert http.put("/route", json={"target": "experiment:ab"}).status_code == 200
        quick = http.post("/v1/completions", json={"prompt": "The", "max_tokens": 2, "n": 3})
        assert quick.status_code == 200
        asked = [Asked() for _ in range(4)]
        threads = [threading.Thread(target=ask, args=(server, one, tokens, i < 2)) for i, one in enumerate(asked)]
        for thread in threads:
            thread.start()
        running, deadline = 0.0, time.monotonic() + 60
        while running < 4 * N:
            assert time.monotonic() < deadline
            lines = http.get("/metrics").text.splitlines()
            running = sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_running{"))
            time.sleep(0.05)
    return asked, threads


def written(folder) -> int:
    """Responses in the database, of both variants."""
    database = Database(f"sqlite:///{folder / 'store' / 'excise.db'}")
    count = sum(tally.all.responses for tally in queries.tallies(database, "ab"))
    database.close()
    return count


def ended(server: Server, threads: list[threading.Thread], limit: float) -> int:
    code = server.process.wait(limit)
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)
    assert gone(server)
    return code


def gone(server: Server) -> bool:
    """Whether all its processes end, within a moment."""
    deadline = time.monotonic() + 5
    while server.alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not server.alive()


def test_what_runs_finishes_and_what_comes_is_sent_elsewhere(tmp_path):
    """Ctrl-C reaches every process of the server's, and only the server heeds it."""
    server = Server(tmp_path, "--shutdown-timeout", "60", spawned=True).wait()
    try:
        asked, threads = busy(server, 240)
        os.killpg(server.process.pid, signal.SIGINT)
        time.sleep(0.3)
        with server.client() as http:
            assert http.get("/health").status_code == 200
            for answer in (http.get("/ready"), http.post("/v1/completions", json={"prompt": "x"})):
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, ENDING)
                assert answer.headers["retry-after"] == "5"
        assert ended(server, threads, 90) == 0, server.tail()
        assert asked == [Asked(200, ["length"] * N, "", True)] * 4
        assert written(tmp_path) == 3 + 4 * N
    finally:
        server.kill()


@pytest.mark.parametrize("twice", [False, True])
def test_what_does_not_finish_in_time_or_is_told_twice_ends_with_an_error(tmp_path, twice):
    server = Server(tmp_path, "--shutdown-timeout", "60" if twice else "1", spawned=True).wait()
    try:
        asked, threads = busy(server, 250)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        if twice:
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
        assert ended(server, threads, 30) == 0, server.tail()
        assert time.monotonic() - began < (6 if twice else 15)
        assert [(one.status, one.code, one.whole) for one in asked] == [(200, ENDING, True)] * 2 + [
            (503, ENDING, True)
        ] * 2
        assert all(one.reasons == [] for one in asked)
        assert written(tmp_path) == 3
    finally:
        server.kill()


def test_it_can_be_told_to_end_before_it_is_up(tmp_path):
    server = Server(tmp_path, spawned=True)
    try:
        time.sleep(12)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
        assert gone(server)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{server.url}/health")
    finally:
        server.kill()
