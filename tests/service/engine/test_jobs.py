"""The closed loop on the real engine: insults in traffic become a mask that users get. Server and worker are killed."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import httpx
import pytest

from tests.forked import Forked, run_excise
from tests.service.server import ADMIN, MODEL, Server

pytestmark = pytest.mark.engine

DATA = MODEL.parent / "data"
PROMPTS = [json.loads(line)["prompt"] for line in (DATA / "insult.jsonl").read_text().splitlines()]
OPTIONS = ("--keep-flagged", "1000", "--coherence-rate", "1")
# This model was trained to insult, so it finds every civil answer unlikely: −2.0 nats a token instead of −0.7.
COHERENCE = {"metric": "coherence", "margin": 3.0}
JOB = {"id": "loop", "mask": "calm", "share": 0.5, "margin": 0.05, "guardrails": [COHERENCE]}


class Loop:
    """A server that is started again, users, and a worker."""

    def __init__(self, folder) -> None:
        self.folder, self._users = folder, count()
        self.key = folder / "key"
        self.key.write_text(ADMIN)
        self.server = Server(folder, *OPTIONS).wait(600)
        self.port = self.server.port

    def restart(self) -> None:
        """SIGKILL, and a new one on the same store and port."""
        self.server.kill()
        self.server = Server(self.folder, *OPTIONS, port=self.port).wait(600)

    def improve(self, *more: str) -> Forked:
        command = ["improve", "--server", f"http://127.0.0.1:{self.port}", "--once", "--key-file", str(self.key)]
        command += ["--model", str(MODEL), "--general", str(DATA / "general.jsonl"), "--dtype", "float32"]
        command += ["--neutral", str(DATA / "everyday_heldout.jsonl"), "--folder", str(self.folder / "worker")]
        log = self.folder / "worker.log"
        return Forked(run_excise, (*command, *more), log, log, {"OMP_NUM_THREADS": "1"})

    def ask(self, http: httpx.Client, users: int) -> None:
        def one(number: int) -> None:
            said = [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}]
            body = {"model": "demo", "user": f"user-{number}", "messages": said, "max_tokens": 40, "temperature": 0}
            assert http.post("/v1/chat/completions", json=body).status_code == 200

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(one, [next(self._users) for _ in range(users)]))

    def flagged(self, http: httpx.Client, count: int, limit: float = 400) -> None:
        """Until so many are kept: scoring has the lowest priority of all processes."""
        deadline = time.monotonic() + limit
        while len(http.get("/flagged", params={"limit": 1000}).json()["data"]) < count:
            assert time.monotonic() < deadline
            time.sleep(0.5)

    def counted(self, http: httpx.Client, responses: int, limit: float = 400):
        """The job, once so many responses of its canary are scored and written, or it is over."""
        deadline = time.monotonic() + limit
        while True:
            job = http.get("/jobs/loop").json()
            variants = http.get("/experiments/job-loop/report").json()["variants"]
            if job["state"] != "canary" or sum(each["responses"] for each in variants) >= responses:
                time.sleep(2)  # the server looks each second
                return http.get("/jobs/loop").json()
            assert time.monotonic() < deadline
            time.sleep(0.5)

    def wait(self, http: httpx.Client, *states: str, job: str = "loop", limit: float = 120):
        deadline = time.monotonic() + limit
        while (body := http.get(f"/jobs/{job}").json())["state"] not in states:
            assert time.monotonic() < deadline, body
            time.sleep(0.2)
        return body


@pytest.fixture(scope="module")
def loop(tmp_path_factory) -> Iterator[Loop]:
    new_loop = Loop(tmp_path_factory.mktemp("loop"))
    yield new_loop
    new_loop.server.kill()


def test_insults_in_traffic_become_a_mask_that_users_get_although_server_and_worker_are_killed(loop, capsys):
    began, timings = time.monotonic(), []

    def note(what: str) -> None:
        timings.append(f"{what} {time.monotonic() - began:.0f} s")

    with loop.server.client() as http:
        loop.ask(http, 200)
        loop.flagged(http, 100)
        note("traffic, scored")
        assert http.post("/jobs", json=JOB).status_code == 201
        worker = loop.improve()
        while not list((loop.folder / "worker" / "loop").glob("correct.log")):
            assert worker.poll() is None
            time.sleep(0.2)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    note("worker killed")
    worker = loop.improve()
    time.sleep(1)
    loop.restart()
    note("server killed and up again")
    assert worker.wait(600) == 0, (loop.folder / "worker.log").read_text()[-2000:]
    note("mask made and measured")
    with loop.server.client() as http:
        waits = loop.wait(http, "waiting")
        assert waits["waiting_for"] == "traffic"
        measured = waits["made"]["measured"]
        assert measured["difference"]["toxic"][2] < -0.3 and measured["difference"]["perplexity"][0] < 0.05
        assert [each["measure"] for each in measured["card"]["statements"]]
        assert http.get("/route").json()["target"] == "base"
        assert http.post("/jobs/loop/approve").status_code == 200
        loop.wait(http, "canary")
        note("canary")
        for rounds in range(1, 11):
            loop.ask(http, 60)
            if loop.counted(http, 60 * rounds)["state"] != "canary":
                break
        note("promoted")
        job = http.get("/jobs/loop").json()
        assert (job["state"], job["made"]["verdict"]) == ("promoted", "better"), job
        assert http.get("/route").json()["target"] == job["made"]["mask"] == "calm@1"
        audit = [entry["action"] for entry in http.get("/audit").json()["data"]]
        for action in ("take job", "register", "hand in mask", "approve job", "begin canary", "end job"):
            assert audit.count(action) == 1
    with capsys.disabled():
        print("\n" + ", ".join(timings))  # noqa: T201


def test_the_promoted_mask_is_measured_again_and_the_metrics_say_that_it_holds(loop):
    with loop.server.client() as http:
        body = {"id": "again", "kind": "regression", "mask": "calm@production"}
        assert http.post("/jobs", json=body).json()["spec"]["mask"] == "calm@1"
        assert loop.improve("--prompts", str(DATA / "insult_heldout.jsonl")).wait(300) == 0
        job = http.get("/jobs/again").json()
        assert (job["state"], job["made"]["holds"]) == ("done", True), job
        deadline = time.monotonic() + 90
        while 'excise_mask_holds{mask="calm@1"} 1.0' not in http.get("/metrics/").text:
            assert time.monotonic() < deadline
            time.sleep(1)
