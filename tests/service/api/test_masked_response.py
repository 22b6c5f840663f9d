"""What the gateway sends on: held until the engine has answered, named by what it reports, 503 where it died."""

from __future__ import annotations

import asyncio
import copy
import json
from types import SimpleNamespace

import pytest

from service.api.masked_response import MaskedResponse
from service.routing.policy import Choice, MaskVersion, Routed

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
CHOSEN = Choice(MaskVersion("detox", 2, "d" * 64, 0))


def chunk(text: bytes, more: bool = True) -> dict:
    return {"type": "http.response.body", "body": text, "more_body": more}


def played(steps, *, died: bool = False):
    """Send messages; a string in between is the digest that the engine reports then. What got through, and when."""
    sent: list[dict] = []
    counts: list[int] = []

    async def send(message):
        sent.append(message)

    routed = Routed(CHOSEN)
    answer = MaskedResponse(
        send, routed, SimpleNamespace(engine_died=lambda: died, ending=SimpleNamespace(begun=False))
    )

    async def run():
        for step in steps:
            if isinstance(step, str):
                routed.digest = step
            else:
                await answer(copy.deepcopy(step))
            counts.append(len(sent))

    asyncio.run(run())
    return sent, counts


def headers(message) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in message["headers"]}


def test_a_stream_waits_for_the_engine_and_then_passes_through_at_once():
    sent, counts = played([START, chunk(b"hello"), "d" * 64, chunk(b"a"), chunk(b"b"), chunk(b"", more=False)])
    assert counts == [0, 0, 0, 3, 4, 5]
    assert headers(sent[0])["x-excise-mask"] == "detox@2"
    assert headers(sent[0])["x-excise-digest"] == "d" * 64
    assert b"".join(message["body"] for message in sent[1:]) == b"helloab"


def test_the_uncorrected_model_is_named_none():
    sent, _ = played(["", START, chunk(b"x", more=False)])
    assert headers(sent[0])["x-excise-digest"] == "none"


def test_an_error_passes_at_once_and_names_no_mask():
    sent, counts = played([{**START, "status": 400}, chunk(b"bad", more=False)])
    assert counts == [1, 2]
    assert "x-excise-digest" not in headers(sent[0])


@pytest.mark.parametrize(
    "steps",
    [
        [{**START, "status": 500}, chunk(b"dead", more=False)],
        [START, chunk(b'data: {"error"}'), chunk(b"", more=False)],
        ["d" * 64, {**START, "status": 500}, chunk(b"dead", more=False)],
    ],
)
def test_a_dead_engine_is_503_whatever_the_endpoint_made_of_it(steps):
    sent, _ = played(steps, died=True)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 503
    assert json.loads(sent[1]["body"])["error"]["code"] == "engine_died"


def test_an_error_that_is_not_the_engines_stays_what_it_was():
    sent, _ = played([{**START, "status": 500}, chunk(b"oops", more=False)])
    assert (sent[0]["status"], sent[1]["body"]) == (500, b"oops")
