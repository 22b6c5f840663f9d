"""What clients of any kind meet at the door: browsers, probes, proxies, OpenAI's and Anthropic's clients."""

from __future__ import annotations

import asyncio

import pytest
from fastapi.responses import JSONResponse

from tests.service.replica import ADMIN, READER, begun, code, made

PAGE = {"origin": "https://page.example"}
CORS = {"allow_origins": ["https://page.example"], "allow_methods": ["*"], "allow_headers": ["*"]}
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
ASK = {"model": "demo", "messages": [{"role": "user", "content": "x"}]}


def run(case):
    asyncio.run(case())


def test_every_answer_that_a_page_may_read_says_so_ours_too(replicas):
    replica = replicas(cross_origin=CORS).with_detox()

    async def fail(body):
        if "fails" in body:
            raise RuntimeError

    replica.script = fail

    async def case() -> None:
        async with replica.client(None) as nobody, replica.client() as http:
            answers = [
                (401, await nobody.post(CHAT, json=ASK, headers=PAGE)),
                (404, await http.get("/nothing", headers=PAGE)),
                (404, await http.post(CHAT, json={"model": "demo:nope"}, headers=PAGE)),
                (405, await http.delete("/route", headers=PAGE)),
                (500, await http.post(CHAT, json={**ASK, "fails": 1}, headers=PAGE)),
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


def test_admins_and_readers_are_told_what_is_not_there(replicas):
    replica = replicas()
    replica.add(made("other", 1))

    async def case() -> None:
        async with replica.client(ADMIN) as http:
            answer = await http.get("/tokenizer_info")  # not asked for at start
            assert answer.status_code == 404
            assert answer.json()["error"]["message"] == "there is no route /tokenizer_info"

    run(case)
