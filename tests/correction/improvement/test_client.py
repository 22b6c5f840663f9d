"""What a worker does when the server is away, busy, or says no."""

from __future__ import annotations

import httpx
import pytest

from correction.improvement.client import Client, JobLostError, ServerError

JOB = {"id": "j1", "kind": "improve", "free": True, "lease": None, "created_at": "2026-11-27T10:00:00Z"}


@pytest.fixture
def key(tmp_path):
    file = tmp_path / "key"
    file.write_text("first-key\n# old\n")
    return file


class Server:
    """Answers what it is told to, one after the other, the last again and again."""

    def __init__(self, *answers) -> None:
        self.answers, self.seen, self.slept = list(answers), [], []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        return httpx.Response(status, json=body)

    def client(self, key, patience=600.0) -> Client:
        return Client("http://server/", key, "w1", patience, self.slept.append, httpx.MockTransport(self))


def error(message):
    return {"error": {"message": message}}


def test_a_server_that_is_away_or_ending_is_waited_for(key):
    server = Server(httpx.ConnectError("refused"), (503, error("it ends")), (429, error("slowly")), (200, JOB))
    assert server.client(key).claim("j1") == JOB
    assert server.slept == [0.5, 1, 2]


def test_it_is_waited_for_as_long_as_patience_lasts(key):
    server = Server((503, error("the engine is still starting")))
    with pytest.raises(ServerError, match="http://server: the engine is still starting"):
        server.client(key, patience=10).register(b"")
    assert server.slept == [0.5, 1, 2, 5]


@pytest.mark.parametrize(("status", "kind"), [(409, JobLostError), (400, ServerError), (404, ServerError)])
def test_a_refusal_is_told_at_once(key, status, kind):
    server = Server((status, error("no")))
    with pytest.raises(ServerError, match="http://server: no") as caught:
        server.client(key).claim("j1")
    assert type(caught.value) is kind and server.slept == []


def test_a_conflict_of_a_mask_is_no_lost_job(key):
    server = Server((409, error("made for another model")))
    with pytest.raises(ServerError) as caught:
        server.client(key).register(b"")
    assert type(caught.value) is ServerError


def test_a_heartbeat_waits_for_nobody_and_tells_only_that_the_job_is_lost(key):
    server = Server(httpx.ReadTimeout("slow"), (503, error("ending")), (409, error("cancelled")))
    client = server.client(key)
    client.beat("j1")
    client.beat("j1")
    with pytest.raises(JobLostError, match="cancelled"):
        client.beat("j1")
    assert server.slept == []


def test_the_key_is_read_for_each_call(key):
    server = Server((200, {"data": []}))
    client = server.client(key)
    client.prompts("j1")
    key.write_text("second-key")
    client.prompts("j1")
    assert [each.headers["authorization"] for each in server.seen] == ["Bearer first-key", "Bearer second-key"]
    for text, why in (("\n", "is empty"), (None, "cannot be read")):
        key.write_text(text) if text else key.unlink()
        with pytest.raises(ServerError, match=why):
            client.prompts("j1")


def test_its_own_job_from_before_a_crash_comes_first_then_the_oldest(key):
    interrupted = {**JOB, "id": "own", "free": False, "lease": {"holder": "w1"}, "created_at": "2026-11-27T12:00:00Z"}
    others = {**JOB, "id": "others", "free": False, "lease": {"holder": "w2"}}
    newer = {**JOB, "id": "newer", "created_at": "2026-11-27T11:00:00Z"}
    queued, correcting, measuring = (
        (200, {"data": [newer, JOB]}),
        (200, {"data": [others, interrupted]}),
        (200, {"data": []}),
    )
    for lost, expected in ((0, ["own"]), (1, ["own", "j1"]), (2, ["own", "j1", "newer"])):
        server = Server(queued, correcting, measuring, *[(409, error("taken"))] * lost, (200, JOB))
        assert server.client(key).take(lambda job: True) == JOB
        assert [each.url.path.split("/")[2] for each in server.seen[3:]] == expected


def test_no_job_is_taken_that_is_not_wanted(key):
    server = Server((200, {"data": [JOB]}), (200, {"data": []}))
    assert server.client(key).take(lambda job: job["kind"] == "regression") is None
    assert {each.method for each in server.seen} == {"GET"}
