"""The end of a server, in its parts: nothing new is taken, what runs is waited for, told, or left, in that order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time

import pytest
from fastapi.responses import JSONResponse, StreamingResponse

from service import shutdown
from service.routing.policy import ROUTED
from tests.service.replica import code

CHAT = "/v1/chat/completions"


def told(replica, signals: int = 1, stopped: list | None = None):
    """Tell the replica to end, as so many signals would."""
    for _ in range(signals):
        replica.service.ending.tell(lambda: stopped.append(time.monotonic()) if stopped is not None else None)


@pytest.fixture
def replica(replicas):
    made = replicas()
    yield made
    if made.service.ending._last:
        made.service.ending._last.cancel()


def test_from_the_first_signal_on_new_requests_are_sent_elsewhere(replica):
    async def run():
        async with replica.client() as http:
            assert (await http.get("/ready")).status_code == 200
            told(replica)
            for answer in (
                await http.get("/ready"),
                await http.post(CHAT, json={"model": "demo"}),
                await http.post("/tokenize", json={"model": "demo"}),
                await http.put("/route", json={"target": "base"}),
                await http.post("/masks", content=b"half a mask"),
            ):
                assert code(answer) == (503, "server_ending")
                assert (answer.headers["retry-after"], answer.headers["connection"]) == ("5", "close")
            assert (await http.get("/route")).status_code == 200
            assert (await http.post(CHAT, json={}, headers={"authorization": "Bearer x"})).status_code == 401
        assert replica.seen == []

    asyncio.run(run())


def test_a_request_whose_body_is_still_coming_is_refused_too(replica):
    async def run():
        sent = asyncio.Event()

        async def body():
            yield b'{"model": '
            sent.set()
            while not replica.service.ending.begun:
                await asyncio.sleep(0.001)
            yield b'"demo"}'

        async with replica.client() as http:
            asking = asyncio.create_task(http.post(CHAT, content=body(), headers={"content-type": "application/json"}))
            await sent.wait()
            told(replica)
            assert code(await asking) == (503, "server_ending")
        assert replica.seen == []

    asyncio.run(run())


async def stopping(stopped: list, limit: float = 5) -> float:
    """Wait until the HTTP server was told to stop; the seconds that it took."""
    begun = time.monotonic()
    while not stopped:
        assert time.monotonic() < begun + limit
        await asyncio.sleep(0.005)
    return stopped[0] - begun


@pytest.mark.parametrize("signals", [1, 2])
def test_what_runs_finishes_within_the_drain_unless_it_is_told_twice(replica, signals):
    finish, stopped = asyncio.Event(), []

    async def script(body):
        await finish.wait()

    replica.script, replica.service.ending.drain = script, 60

    async def run():
        async with replica.client() as http:
            asking = asyncio.create_task(http.post(CHAT, json={"model": "demo"}))
            while not replica.seen:
                await asyncio.sleep(0.001)
            told(replica, signals, stopped)
            if signals == 1:
                await asyncio.sleep(0.2)
                assert not stopped
                finish.set()
                assert (await asking).status_code == 200
            assert await stopping(stopped) < 1
            finish.set()
            answer = await asking
            assert signals == 1 or code(answer) == (503, "server_ending")

    asyncio.run(run())
    assert len(stopped) == 1


def test_a_server_that_runs_nothing_or_whose_engine_died_stops_at_once(replicas, monkeypatch):
    monkeypatch.setattr(shutdown, "_CUT", 0.1)
    for dead in (False, True):
        made, stopped = replicas(), []
        made.service.ending.drain, made.engine.dead = 60, dead

        async def run(made=made, stopped=stopped, dead=dead):
            if dead:
                made.service.ending._running.add(Silent())
            told(made, 1, stopped)
            assert await stopping(stopped) < 1

        asyncio.run(run())
        made.service.ending._last.cancel()


class Silent:
    """A client that does not read what it is told."""

    async def cut(self, error):
        await asyncio.Event().wait()


def test_a_client_that_does_not_read_is_left_behind(replica, monkeypatch):
    monkeypatch.setattr(shutdown, "_CUT", 0.2)
    stopped: list[float] = []

    async def run():
        replica.service.ending._running.add(Silent())
        told(replica, 1, stopped)
        assert 0.1 < await stopping(stopped) < 2

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "event"),
    [
        (CHAT, 'data: {"error": {"message": "MESSAGE", "type": "service_unavailable_error", "code": "server_ending", '
         '"param": null}}\n\ndata: [DONE]\n\n'),
        ("/v1/messages", 'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": '
         '"MESSAGE"}}\n\n'),
    ],
)  # fmt: skip
def test_a_stream_that_is_cut_off_ends_with_an_error_in_its_own_shape(replica, path, event):
    async def script(body):
        routed = ROUTED.get()

        async def chunks():
            routed.digest = ""
            yield 'data: {"n": 1}\n\n'
            told(replica)  # with no time to finish
            await asyncio.sleep(0.5)
            yield 'data: {"n": 2}\n\n'

        return StreamingResponse(chunks(), media_type="text/event-stream")

    replica.script = script

    async def run():
        async with replica.client() as http:
            return await http.post(path, json={"model": "demo", "stream": True})

    answer = asyncio.run(run())
    assert answer.status_code == 200
    message = "this server is ending and takes no more requests; send it again"
    assert answer.text == 'data: {"n": 1}\n\n' + event.replace("MESSAGE", message)


def test_an_answer_that_was_given_is_not_cut_off_and_one_in_the_engine_fails_no_variant(replica):
    async def script(body):
        told(replica)
        await asyncio.sleep(0.3)  # cut off meanwhile
        raise RuntimeError("the engine dropped it")

    replica.script = script

    async def run():
        async with replica.client() as http:
            answer = await http.post(CHAT, json={"model": "demo"})
            assert code(answer) == (503, "server_ending")
            assert json.loads(answer.content)["error"]["message"].startswith("this server is ending")

    failed: list = []
    replica.service.recorder.failed = failed.append
    asyncio.run(run())
    assert failed == []


@pytest.mark.parametrize("raises", [False, True])
def test_what_fails_in_the_end_is_told_as_the_end(replica, raises):
    async def script(body):
        told(replica)
        if raises:
            raise RuntimeError("the engine is gone")
        return JSONResponse({"error": "EngineCore encountered an issue"}, 500)

    replica.script, replica.service.ending.drain = script, 60

    async def run():
        async with replica.client() as http:
            assert code(await http.post(CHAT, json={"model": "demo"})) == (503, "server_ending")

    asyncio.run(run())


def test_a_document_on_its_way_is_left_alone(replica):
    async def script(body):
        ROUTED.get().digest = ""
        told(replica)
        return JSONResponse({"whole": "document"}, background=_Later())

    replica.script = script

    async def run():
        async with replica.client() as http:
            answer = await http.post(CHAT, json={"model": "demo"})
            assert (answer.status_code, answer.json()) == (200, {"whole": "document"})

    asyncio.run(run())


class _Later:
    """What an endpoint does after its answer was given."""

    async def __call__(self) -> None:
        await asyncio.sleep(0.3)


def test_signals_reach_it_through_the_event_loop(replica):
    stopped: list[float] = []

    async def run():
        replica.service.ending.listen(lambda: stopped.append(time.monotonic()))
        os.kill(os.getpid(), signal.SIGTERM)
        assert await stopping(stopped) < 2
        os.kill(os.getpid(), signal.SIGINT)
        while not replica.service.ending.hurried:
            await asyncio.sleep(0.01)

    asyncio.run(run())


def test_an_end_that_hangs_is_cut_short_from_outside_the_event_loop(replica, monkeypatch):
    killed = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda status: killed.set() if status == 1 else None)
    monkeypatch.setattr(shutdown, "_AT_ONCE", 0.1)

    async def run():
        told(replica, 2)
        time.sleep(0.5)  # the loop hangs

    asyncio.run(run())
    assert killed.is_set()


def test_a_third_signal_kills(replica, monkeypatch):
    killed: list[int] = []
    monkeypatch.setattr(os, "_exit", killed.append)

    async def run():
        told(replica, 3)

    asyncio.run(run())
    assert killed == [1]


def test_the_longest_end_fits_in_what_kubernetes_gives(replica):
    """deploy/helm: ``terminationGracePeriodSeconds`` is ``drainSeconds`` and 30."""

    async def run():
        told(replica)

    asyncio.run(run())
    assert replica.service.ending._last.interval <= 30
