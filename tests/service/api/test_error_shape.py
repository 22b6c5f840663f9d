"""One shape of errors: ours, vLLM's, FastAPI's and those of streams, in words and without Python."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from fastapi.responses import JSONResponse, StreamingResponse

from service.routing.policy import ROUTED
from tests.service.replica import code

CHAT = "/v1/chat/completions"
ASK = {"model": "demo", "messages": [{"role": "user", "content": "x"}]}
NOPE = [{"name": name, "mask": mask, "weight": 1} for name, mask in (("a", "base"), ("b", "nope"))]


def run(case):
    asyncio.run(case())


def vllms(message: str, kind: str = "BadRequestError", status: int = 400, param: str | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": status}}, status)


LONG = "This model's maximum context length is 256 tokens. However, your prompt contains 25034 characters."
DUMP = """7 validation errors for ValidatorIterator
0.ChatCompletionContentPartTextParam.text
  Field required [type=missing, input_value={'type': 'text'}, input_type=dict]
    For further information visit https://errors.pydantic.dev/2.14/v/missing"""
THEIRS = [
    (
        vllms("top_p must be in (0, 1], got 2.0. (parameter=top_p, value=2.0)", param="top_p"),
        ("top_p must be in (0, 1], got 2.0.", "invalid_request_error", "invalid_request", "top_p"),
    ),
    (
        vllms("key(s) that are no token IDs: ['x', 'y'] (parameter=logit_bias, value=['x', 'y'])", param="logit_bias"),
        ("key(s) that are no token IDs: 'x', 'y'", "invalid_request_error", "invalid_request", "logit_bias"),
    ),
    (vllms(LONG), (LONG, "invalid_request_error", "context_length_exceeded", None)),
    (
        vllms("'<' not supported between instances of 'str' and 'int'", "InternalServerError", 500),
        ("the server failed on this request; its log says why", "server_error", "internal_error", None),
    ),
    (
        vllms("unhashable type: 'list'"),
        (
            "a value of the request is of a kind that cannot be used",
            "invalid_request_error",
            "invalid_request",
            None,
        ),
    ),
    (vllms("no such image", "x", 422), ("no such image", "invalid_request_error", "invalid_request", None)),
    (JSONResponse({"detail": "gone"}, 404), ("gone", "not_found_error", "not_found", None)),
    (JSONResponse({"error": "Unauthorized"}, 401), ("Unauthorized", "authentication_error", "invalid_request", None)),
]


@pytest.mark.parametrize(("theirs", "ours"), THEIRS, ids=range(len(THEIRS)))
def test_whatever_vllm_answers_the_client_reads_one_shape(replicas, theirs, ours):
    replica = replicas()

    async def vllm(body):
        return theirs

    replica.script = vllm

    async def case() -> None:
        async with replica.client() as http:
            answer = await http.post(CHAT, json=ASK)
            assert answer.status_code == (400 if theirs.status_code == 422 else theirs.status_code)
            message, kind, name, param = ours
            assert answer.json() == {"error": {"message": message, "type": kind, "code": name, "param": param}}

    run(case)


def test_pydantics_own_print_is_never_passed_on(replicas):
    replica = replicas()

    async def vllm(body):
        return vllms(DUMP)

    replica.script = vllm

    async def case() -> None:
        async with replica.client() as http:
            error = (await http.post(CHAT, json=ASK)).json()["error"]
            assert (error["message"], error["param"]) == ("'text' is missing", "text")

    run(case)


def test_what_fails_is_logged_and_not_told_and_a_stream_that_began_breaks(replicas, caplog):
    replica = replicas()

    async def broken():
        yield b"data: {}\n\n"
        raise RuntimeError("secret of the server")

    async def vllm(body):
        if body.get("stream"):
            ROUTED.get().digest = ""  # the engine has answered, so the stream begins
            return StreamingResponse(broken())
        raise RuntimeError("secret of the server")

    replica.script = vllm

    async def case() -> None:
        async with replica.client() as http:
            answer = await http.post(CHAT, json=ASK)
            assert code(answer) == (500, "internal_error")
            assert "secret" not in answer.text
            assert "secret of the server" in caplog.text
            with pytest.raises(Exception, match="secret"):
                await http.post(CHAT, json={**ASK, "stream": True})

    with caplog.at_level(logging.ERROR):
        run(case)


@pytest.mark.parametrize(
    ("method", "path", "body", "message", "param"),
    [
        ("PUT", "/masks/detox/aliases/live", {}, "'version' is missing", "version"),
        ("PUT", "/masks/detox/aliases/live", {"version": "2"}, "'version' must be a number, not text", "version"),
        ("PUT", "/masks/detox/aliases/live", {"version": 0}, "'version' must be at least 1", "version"),
        ("PUT", "/masks/detox/aliases/live", {"version": 1, "x": 1}, "'x' is no field of this call", "x"),
        ("PUT", "/masks/detox/aliases/9", {"version": 1}, "'alias' must be text of the form", "alias"),
        ("PUT", "/route", [], "the body must be an object", "body"),
        ("GET", "/masks?limit=many", None, "'limit' must be a whole number", "limit"),
        ("GET", "/masks?limit=0", None, "'limit' must be at least 1", "limit"),
        ("POST", "/experiments", {"name": "ab", "variants": "x"}, "'variants' must be a list", "variants"),
        ("PUT", "/masks/nope/aliases/live", {"version": 1}, "no mask 'nope'", "name"),
        ("PUT", "/masks/detox/aliases/live", {"version": 9}, "no version or alias '9'", "version"),
        ("POST", "/experiments", {"name": "ab", "variants": NOPE}, "no mask 'nope'", "variants[1].mask"),
        ("PUT", "/route", {"target": "nope"}, "no mask 'nope'", "target"),
        ("PUT", "/route", {"target": "A B"}, "'target' must be text of the form", "target"),
    ],
)
def test_a_call_that_is_wrong_is_told_the_field_in_words(replicas, method, path, body, message, param):
    replica = replicas().with_detox()

    async def case() -> None:
        async with replica.client() as http:
            answer = await http.request(method, path, json=body)
            error = answer.json()["error"]
            assert answer.status_code in (400, 404)
            assert message in error["message"]
            assert error["param"] == param
            assert isinstance(error["code"], str)
            for python in ("{'", "['", "Input should", "int_", "<class", "loc"):
                assert python not in error["message"]

    run(case)


def test_the_described_api_knows_no_other_error_shape(replicas):
    replica = replicas()

    async def case() -> None:
        async with replica.client() as http:
            described = (await http.get("/openapi.json")).json()
            for path, item in described["paths"].items():
                for method, call in item.items():
                    assert "422" not in call["responses"], (method, path)

    run(case)


def test_an_error_in_a_stream_has_the_shape_too(replicas):
    replica = replicas()

    async def events():
        yield b'data: {"choices": []}\n\n'
        inner = {"message": "too many (parameter=n, value=5)", "type": "BadRequestError", "param": "n", "code": 400}
        yield f"data: {json.dumps({'error': inner}, separators=(',', ':'))}\n\n".encode()
        yield f"data: {json.dumps({'error': {**inner, 'code': 500}})}\n\n".encode()
        yield b"data: [DONE]\n\n"

    async def vllm(body):
        ROUTED.get().digest = ""
        return StreamingResponse(events(), media_type="text/event-stream")

    replica.script = vllm

    async def case() -> None:
        async with replica.client() as http:
            said = (await http.post(CHAT, json=ASK)).text.split("\n\n")
            assert [said[0], said[3]] == ['data: {"choices": []}', "data: [DONE]"]
            refused, failed = (json.loads(event.removeprefix("data: "))["error"] for event in said[1:3])
            expected = {"message": "too many", "type": "invalid_request_error", "code": "invalid_request", "param": "n"}
            assert refused == expected
            assert (failed["code"], "many" in failed["message"]) == ("internal_error", False)

    run(case)
