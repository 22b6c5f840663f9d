"""What clients of any kind meet at the door: browsers, probes, proxies, OpenAI's and Anthropic's clients."""

from __future__ import annotations

import asyncio
import logging

import pytest
from fastapi.responses import JSONResponse, StreamingResponse

from service.routing import ROUTED
from tests.service.replica import ADMIN, READER, begun, code, made

PAGE = {"origin": "https://page.example"}
CORS = {"allow_origins": ["https://page.example"], "allow_methods": ["*"], "allow_headers": ["*"]}
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
ASK = {"model": "demo", "messages": [{"role": "user", "content": "x"}]}


def run(case):
    asyncio.run(case())


def test_every_answer_that_a_page_may_read_says_so_ours_too(replicas):
    replica = replicas(cross_origin=CORS).with_detox()

    async def case() -> None:
        async with replica.client(None) as nobody, replica.client() as http:
            answers = [
                (401, await nobody.post(CHAT, json=ASK, headers=PAGE)),
                (404, await http.get("/nothing", headers=PAGE)),
                (404, await http.post(CHAT, json={"model": "demo:nope"}, headers=PAGE)),
                (405, await http.delete("/route", headers=PAGE)),
                (413, await http.post(CHAT, content=b"x" * (33 * 2**20), headers=PAGE)),
                (200, await http.post(CHAT, json=ASK, headers=PAGE)),
            ]
            for status, answer in answers:
                assert answer.status_code == status
                assert answer.headers["access-control-allow-origin"] == PAGE["origin"]
                exposed = answer.headers["access-control-expose-headers"]
                assert {"x-excise-mask", "x-excise-digest", "x-request-id"} <= set(exposed.split(", "))
            other = await http.get("/nothing", headers={"origin": "https://other.example"})
            assert "access-control-allow-origin" not in other.headers

    run(case)


def test_a_preflight_needs_no_key_and_options_of_any_other_kind_is_no_door(replicas):
    replica = replicas(cross_origin=CORS)

    async def case() -> None:
        async with replica.client(None) as nobody:
            ask = {**PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
            answer = await nobody.options(CHAT, headers=ask)
            assert (answer.status_code, answer.headers["access-control-allow-headers"]) == (200, "authorization")
            assert (await nobody.options("/metrics")).status_code == 405  # vLLM answers any method there
            assert (await nobody.options("/metricsx")).status_code == 404

    run(case)


def test_a_probe_may_ask_for_the_head_alone(replicas):
    replica = replicas()

    async def case() -> None:
        async with replica.client(None) as nobody:
            whole, head = await nobody.get("/ready"), await nobody.head("/ready")
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == whole.headers["content-length"]
            replica.engine.dead = True
            assert (await nobody.head("/ready")).status_code == 503

    run(case)


@pytest.mark.parametrize("prefix", ["", "/excise"])
def test_behind_a_proxy_paths_work_with_the_prefix_and_without_and_no_door_opens(replicas, prefix):
    replica = replicas(root_path="/excise").with_detox()

    async def case() -> None:
        async with replica.client(None) as nobody, replica.client() as http:
            assert (await http.get(f"{prefix}/masks/detox/1")).json()["name"] == "detox"
            assert (await http.post(f"{prefix}{CHAT}", json={**ASK, "model": "demo:detox"})).status_code == 200
            assert (await http.get(f"{prefix}/excise/masks")).status_code == (404 if prefix else 200)
            for path in ("/masks", "/route", "/excise/route", "/audit"):
                assert (await nobody.get(f"{prefix}{path}")).status_code in (401, 404)
            assert (await http.post(f"{prefix}/v1/load_lora_adapter", json={})).status_code == 404

    run(case)


def test_the_models_are_listed_as_a_request_may_name_them(replicas):
    replica = replicas().with_detox()

    async def case() -> None:
        async with replica.client() as http:
            await http.put("/masks/detox/aliases/live", json={"version": 1})
            masks = {mask["version"]: mask for mask in (await http.get("/masks/detox")).json()["data"]}
            listed = {card["id"]: card for card in (await http.get("/v1/models")).json()["data"]}
            expected = {"demo:base": "base", "demo:detox@1": "detox@1", "demo:detox@2": "detox@2"}
            expected |= {"demo": "base", "demo:detox": "detox@2", "demo:detox@live": "detox@1"}
            assert {name: card["mask"] for name, card in listed.items()} == expected
            for name, card in listed.items():
                assert card == (await http.get(f"/v1/models/{name}")).json()
                answer = await http.post(CHAT, json={**ASK, "model": name})
                assert answer.headers["x-excise-mask"] == card["mask"]
                assert answer.headers["x-excise-digest"] == card["digest"]
            assert listed["demo:base"]["digest"] == "none"
            when = replica.service.policy.masks["detox"][1].registered
            assert listed["demo:detox@1"]["created"] == when == pytest.approx(_seconds(masks[1]["registered_at"]))
            await http.put("/masks/detox/aliases/production", json={"version": 1})
            assert (await http.get("/v1/models/demo:detox")).json()["mask"] == "detox@1"
            await begun(http)
            assert "mask" not in (await http.get("/v1/models/demo")).json()

    run(case)


def _seconds(text: str) -> float:
    import calendar
    import time

    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"input": [{"role": "user", "content": "x"}, {"type": "item_reference", "id": "m"}]}, "input[1]"),
    ],
)
def test_what_needs_kept_responses_is_refused_by_name(replicas, more, param):
    replica = replicas()

    async def case() -> None:
        async with replica.client() as http:
            answer = await http.post(RESPONSES, json={"model": "demo", "input": "x", **more})
            assert code(answer) == (400, "not_supported")
            assert answer.json()["error"]["param"] == param
            assert "send the whole conversation" in answer.text
            assert (await http.post(RESPONSES, json={"model": "demo", "input": "x", "store": True})).status_code == 200
            for method, path in (("GET", "/resp_1"), ("DELETE", "/resp_1"), ("POST", "/resp_1/cancel")):
                fetched = await http.request(method, RESPONSES + path)
                assert code(fetched) == (404, "not_supported")

    run(case)


def test_anthropics_calls_answer_errors_in_anthropics_shape(replicas):
    replica = replicas(max_body_bytes=2048)

    async def vllm(body):
        if body["model"] == "demo" and "max_tokens" not in body:
            inner = {"type": "NotFoundError", "message": "nothing here"}
            return JSONResponse({"type": "error", "error": inner}, 404)
        return None

    replica.script = vllm

    async def case() -> None:
        async with replica.client(None) as nobody, replica.client(READER) as http:
            for path in (MESSAGES, f"{MESSAGES}/count_tokens"):
                answers = {
                    "authentication_error": await nobody.post(path, json=ASK),
                    "not_found_error": await http.post(path, json={**ASK, "model": "other"}),
                    "invalid_request_error": await http.post(path, content=b"{"),
                    "request_too_large": await http.post(path, content=b"x" * 3000),
                }
                for kind, answer in answers.items():
                    said = answer.json()
                    assert (said["type"], said["error"]["type"]) == ("error", kind)
                    assert said.keys() == {"type", "error"}
                    assert said["error"].keys() == {"type", "message"}
                theirs = await http.post(path, json=ASK)
                assert theirs.json()["error"] == {"type": "not_found_error", "message": "nothing here"}
                assert (await http.post(path, json={**ASK, "max_tokens": 1})).status_code == 200

    run(case)


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
    (vllms(LONG), (LONG, "invalid_request_error", "context_length_exceeded", None)),
    (
        vllms("'<' not supported between instances of 'str' and 'int'", "InternalServerError", 500),
        ("the server failed on this request; its log says why", "server_error", "internal_error", None),
    ),
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
            assert answer.status_code == theirs.status_code
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
    replica = replicas(cross_origin=CORS)

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
            answer = await http.post(CHAT, json=ASK, headers=PAGE)
            assert code(answer) == (500, "internal_error")
            assert answer.headers["access-control-allow-origin"] == PAGE["origin"]
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
        ("PUT", "/masks/nope/aliases/live", {"version": 1}, "no mask 'nope'", "model"),
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


def test_admins_and_readers_are_told_what_is_not_there(replicas):
    replica = replicas()
    replica.add(made("other", 1))

    async def case() -> None:
        async with replica.client(ADMIN) as http:
            answer = await http.get("/tokenizer_info")  # not asked for at start
            assert answer.status_code == 404
            assert answer.json()["error"]["message"] == "there is no route /tokenizer_info"

    run(case)
