"""SIGKILL of server or worker at every step of a job: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import collections
import time

import httpx
import pytest

from service.storage import audit
from service.storage.database import Database
from tests.service.jobs.processes import Server, Worker

ALONE = ("create improve job", "take job", "register", "hand in mask", "approve job")
"""Actions that are a transaction each; of the two further on the last is the end of one."""
TOGETHER = (("create experiment", "begin canary"), ("stop experiment", "end job"))
POINTS = [(action, when) for action in ALONE for when in ("before", "after")]
POINTS += [point for first, last in TOGETHER for point in ((first, "before"), (last, "before"), (last, "after"))]
STEPS = ("correct", "evaluate", "register", "hand in")


class Story:
    """An operator who tries again when the server is away, and users who go on coming."""

    def __init__(self, server: Server, worker: Worker) -> None:
        self.server, self.worker = server, worker
        self._users = 0
        self._deadline = time.monotonic() + 240

    def look(self) -> dict:
        """The job. The server is started if it does not run."""
        while time.monotonic() < self._deadline:
            self.server.keep()
            try:
                with self.server.client() as http:
                    answer = http.get("/jobs/j1")
                    return answer.json() if answer.status_code == 200 else {"state": "none"}
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("it takes too long")

    def post(self, path: str, **body) -> None:
        """Once; who is not answered looks what has become of it."""
        try:
            with self.server.client() as http:
                answer = http.post(path, json=body)
                assert answer.status_code < 300, answer.text
        except httpx.TransportError:
            pass

    def users(self, count: int) -> None:
        try:
            with self.server.client() as http:
                for _ in range(count):
                    self._users += 1
                    said = [{"role": "user", "content": f"You are slow, number {self._users}."}]
                    body = {"model": "demo", "user": f"user-{self._users}", "messages": said}
                    assert http.post("/v1/chat/completions", json=body).status_code == 200
        except httpx.TransportError:
            pass

    def tell(self) -> dict:
        while (job := self.look())["state"] not in ("promoted", "rolled back", "failed", "cancelled"):
            if job["state"] == "none":
                self.users(20)
                time.sleep(0.3)  # flagged responses are written in a moment
                self.post("/jobs", id="j1", mask="calm", minimum=8, share=0.5, margin=0.05, guardrails=[])
            elif job["state"] in ("queued", "correcting"):
                self.worker.keep()
                time.sleep(0.05)
            elif job["state"] == "waiting":
                self.post("/jobs/j1/approve")
            else:
                self.users(40)
        return job


@pytest.fixture
def story(tmp_path, database_url):
    (tmp_path / "store").mkdir()
    server = Server(tmp_path / "store", database_url, POINTS)
    worker = Worker(tmp_path, server.url, [(step, when) for step in STEPS for when in ("before", "after")])
    yield Story(server, worker)
    server.kill()
    worker.kill()


def test_whoever_is_killed_at_whatever_step_the_job_goes_on_and_each_step_is_done_once(story, database_url):
    job = story.tell()
    assert (job["state"], job["made"]["mask"], job["made"]["verdict"]) == ("promoted", "calm@1", "better")
    assert story.server.killed == POINTS
    assert [step for step, _ in story.worker.killed] == [step for step in STEPS for _ in range(2)][:-1]
    assert len(story.worker.corrections.read_text().splitlines()) == 2  # killed before the first was done
    with story.server.client() as http:
        assert http.get("/route").json()["target"] == "calm@1"
    database = Database(database_url)
    done = collections.Counter(entry["action"] for entry in audit.entries(database, limit=1000))
    database.close()
    once = dict.fromkeys((*ALONE, *(action for pair in TOGETHER for action in pair)), 1)
    assert done == once | {"set alias": 2, "set route": 2}
