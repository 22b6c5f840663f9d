"""Mirrored requests: answered again under another mask, bounded, never shown, and never in the way."""

from __future__ import annotations

import asyncio
import json

import pytest
from fastapi.responses import JSONResponse, StreamingResponse

from service import metrics
from service.api.mirror import PRIORITY
from service.experiments.experiment import Experiment, Variant, begin
from service.experiments.outcomes import queries
from service.routing.policy import ROUTED
from tests.service.replica import Replicas, made

CHAT = "/v1/chat/completions"
SHADOW = Variant("shadow", "detox@1", mirror=1.0)


@pytest.fixture
def replicas(tmp_path, monkeypatch):
    factory = Replicas(tmp_path, f"sqlite:///{tmp_path / 'excise.db'}", monkeypatch)
    yield factory
    factory.close()


def mirroring(replicas, *, control: str = "base", shadow: Variant = SHADOW, **settings):
    """A replica whose every request has a copy under ``detox@1``."""
    replica = replicas(**settings)
    replica.add(made("detox", 1), made("detox", 2))
    experiment = Experiment("ab", (Variant("control", control, 1.0), shadow), "control")
    replica.service.state.create(begin(experiment, 0.0))
    replica.service.state.set_route("experiment:ab")
    replica.service.reload()
    return replica


def is_copy(body) -> bool:
    return body["model"] == "demo:detox@1"


async def settled(replica) -> None:
    """Until every copy is done."""
    mirror = gateway(replica)._mirror
    for _ in range(500):
        if not mirror._tasks:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("copies are still under way")


def gateway(replica):
    middleware = replica._app.middleware_stack
    while not hasattr(middleware, "_mirror"):
        middleware = middleware.app
    return middleware


def copies(replica):
    return [one for one in replica.seen if is_copy(one[1])]


def test_a_copy_is_answered_under_the_other_mask_and_not_shown(replicas):
    replica = mirroring(replicas)

    async def run() -> None:
        async with replica.client() as http:
            answer = await http.post(CHAT, json={"model": "demo", "user": "ann"})
            await settled(replica)
        assert answer.json() == {"model": "demo"}
        assert answer.headers["x-excise-mask"] == "base"
        assert answer.headers["x-excise-variant"] == "control"

    asyncio.run(run())
    assert sorted(body["model"] for _, body, _ in replica.seen) == ["demo", "demo:detox@1"]
    replica.service.ledger.flush()
    tallies = {tally.variant: tally for tally in queries.tallies(replica.database, "ab")}
    assert {name: tally.all.responses for name, tally in tallies.items()} == {"control": 1, "shadow": 1}
    assert sum(tally.units.responses for tally in tallies.values()) == 1


def test_a_copy_has_what_the_request_had_but_is_no_stream_and_comes_last(replicas):
    replica = mirroring(replicas)
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "é 😀 \u0000"}]}],
        "user": "änne",
        "stream": True,
        "stream_options": {"include_usage": True},
        "request_id": "mine",
        "n": 2,
        "seed": 7,
        "metadata": {"k": "v"},
    }
    headers = {"x-request-id": "mine", "x-trace": "kept", "anthropic-version": "2023-06-01"}

    async def run() -> None:
        async with replica.client() as http:
            await http.post(CHAT, content=json.dumps(body), headers=headers)
            await settled(replica)

    asyncio.run(run())
    [(sent, copy, routed)] = copies(replica)
    changed = {"model": "demo:detox@1"}
    left_out = ("stream", "stream_options", "request_id")
    assert copy == {**{key: value for key, value in body.items() if key not in left_out}, **changed}
    assert "x-request-id" not in sent
    assert sent["x-vllm-priority"] == str(PRIORITY)
    assert (sent["x-trace"], sent["anthropic-version"]) == ("kept", "2023-06-01")
    assert int(sent["content-length"]) == len(json.dumps(copy))
    shown = next(one for one in replica.seen if not is_copy(one[1]))
    assert shown[1] == body
    assert shown[0]["x-request-id"] == "mine"
    assert routed is not shown[2]
    assert (routed.choice.label, shown[2].choice.label) == ("detox@1", "base")


def test_a_message_comes_last_too(replicas):
    replica = mirroring(replicas)

    async def run() -> None:
        async with replica.client() as http:
            await http.post("/v1/messages", json={"model": "demo", "metadata": {"user_id": "ann"}})
            await settled(replica)

    asyncio.run(run())
    assert [sent["x-vllm-priority"] for sent, _, _ in copies(replica)] == [str(PRIORITY)]


@pytest.mark.parametrize(
    ("path", "model"), [("/v1/responses", "demo"), ("/tokenize", "demo"), (CHAT, "demo:base"), (CHAT, "demo:detox@2")]
)
def test_what_is_stored_or_not_generated_or_no_part_of_the_experiment_is_not_copied(replicas, path, model):
    replica = mirroring(replicas)

    async def run() -> None:
        async with replica.client() as http:
            assert (await http.post(path, json={"model": model, "user": "ann"})).status_code == 200
            await settled(replica)

    asyncio.run(run())
    assert len(replica.seen) == 1


def test_copies_are_bounded_and_those_left_out_are_counted(replicas):
    replica = mirroring(replicas, max_mirrored=2)
    before = metrics.MIRROR_DROPPED._value.get()

    async def run() -> None:
        go = asyncio.Event()

        async def script(body):
            if is_copy(body):
                await go.wait()

        replica.script = script
        async with replica.client() as http:
            for number in range(5):
                assert (await http.post(CHAT, json={"model": "demo", "user": f"u{number}"})).status_code == 200
            assert metrics.MIRROR_DROPPED._value.get() == before + 3
            go.set()
            await settled(replica)
            await http.post(CHAT, json={"model": "demo", "user": "later"})
            await settled(replica)

    asyncio.run(run())
    assert len(copies(replica)) == 3
    assert metrics.MIRROR_DROPPED._value.get() == before + 3


def test_where_none_are_allowed_none_are_made(replicas):
    replica = mirroring(replicas, max_mirrored=0)

    async def run() -> None:
        async with replica.client() as http:
            assert (await http.post(CHAT, json={"model": "demo", "user": "ann"})).status_code == 200

    asyncio.run(run())
    assert not copies(replica)


async def _raises(body):
    raise RuntimeError("broken")


async def _fails(body):
    return JSONResponse({"error": "broken"}, 500)


async def _refuses(body):
    return JSONResponse({"error": "what the client sent"}, 400)


@pytest.mark.parametrize(("fault", "errors"), [(_raises, 1), (_fails, 1), (_refuses, 0)])
def test_a_copy_that_fails_touches_nothing_and_its_error_is_the_variants(replicas, fault, errors):
    replica = mirroring(replicas)

    async def script(body):
        return await fault(body) if is_copy(body) else None

    replica.script = script

    async def run() -> None:
        async with replica.client() as http:
            answer = await http.post(CHAT, json={"model": "demo", "user": "ann"})
            assert (answer.status_code, answer.json()) == (200, {"model": "demo"})
            await settled(replica)

    asyncio.run(run())
    replica.service.ledger.flush()
    error_counts = {tally.variant: tally.all.errors for tally in queries.tallies(replica.database, "ab")}
    assert error_counts.get("shadow", 0) == errors
    assert error_counts["control"] == 0


def test_a_mask_that_cannot_be_resident_fails_only_its_copy(replicas):
    replica = mirroring(replicas)
    replica.engine.refused.add("detox@1")

    async def run() -> None:
        async with replica.client() as http:
            assert (await http.post(CHAT, json={"model": "demo", "user": "ann"})).status_code == 200
            await settled(replica)

    asyncio.run(run())
    assert not copies(replica)
    replica.service.ledger.flush()
    assert {t.variant: t.all.errors for t in queries.tallies(replica.database, "ab")} == {"control": 0, "shadow": 1}


def test_a_request_that_fails_has_its_copy_all_the_same(replicas):
    replica = mirroring(replicas, control="detox@2")
    replica.engine.refused.add("detox@2")

    async def run() -> None:
        async with replica.client() as http:
            assert (await http.post(CHAT, json={"model": "demo", "user": "ann"})).status_code == 503
            await settled(replica)

    asyncio.run(run())
    assert len(copies(replica)) == 1


def test_a_slow_copy_is_never_waited_for_and_ends_with_the_server(replicas):
    replica = mirroring(replicas)
    ended = []

    async def run() -> None:
        async def script(body):
            if is_copy(body):
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.append(True)

        replica.script = script
        async with replica.client() as http:
            answer = await asyncio.wait_for(http.post(CHAT, json={"model": "demo", "user": "ann"}), 10)
            assert answer.status_code == 200
            while not copies(replica):
                await asyncio.sleep(0.01)
        sent = []

        async def receive():
            return {"type": f"lifespan.{'shutdown' if sent else 'startup'}"}

        async def send(message):
            sent.append(message["type"])

        await asyncio.wait_for(replica({"type": "lifespan", "app": replica._app}, receive, send), 20)
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        assert ended == [True]
        assert not gateway(replica)._mirror._tasks

    asyncio.run(run())


def test_a_stream_passes_through_beside_its_copy(replicas):
    replica = mirroring(replicas)

    async def script(body):
        if is_copy(body):
            return None
        routed = ROUTED.get()

        async def chunks():
            routed.digest = routed.choice.digest
            for number in range(3):
                yield f"data: {number}\n\n"
                await asyncio.sleep(0)

        return StreamingResponse(chunks(), media_type="text/event-stream")

    replica.script = script

    async def run() -> None:
        async with replica.client() as http:
            answer = await http.post(CHAT, json={"model": "demo", "user": "ann", "stream": True})
            assert answer.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
            assert answer.headers["x-excise-mask"] == "base"
            await settled(replica)

    asyncio.run(run())
    assert len(copies(replica)) == 1


def test_a_copy_waits_for_a_disconnect_that_never_comes(replicas):
    """vLLM's handlers watch for the client's leaving beside their work."""
    replica = mirroring(replicas)
    left = []

    async def script(body):
        if is_copy(body):
            watch = asyncio.create_task(replica.receives[-1]())
            await asyncio.wait({watch}, timeout=0.05)
            left.append(watch.done())
            watch.cancel()

    replica.script = script

    async def run() -> None:
        async with replica.client() as http:
            await http.post(CHAT, json={"model": "demo", "user": "ann"})
            await settled(replica)

    asyncio.run(run())
    assert left == [False]
