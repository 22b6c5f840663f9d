"""Experiments against the real engine: split, headers, guardrails, mirror, report, winner. One server for all."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import masks
from correction.data import references
from tests.service.engine.random_masks import ALPHA, BETA
from tests.service.server import MODEL

pytestmark = pytest.mark.engine

PROMPTS = references.read(Path(MODEL).parent / "data" / "insult_heldout.jsonl", kind="prompt").texts


@pytest.fixture(scope="module")
def mute(gated):
    """A mask under which the model can say nothing of sense: every neuron of every layer is cut."""
    geometry = masks.describe(MODEL).geometry
    cut = {layer: list(range(geometry.neurons)) for layer in range(geometry.layers)}
    mask = masks.for_model(MODEL, "mute", neurons=cut)
    with gated.client() as client:
        assert client.post("/masks", content=masks.dumps(mask)).status_code == 201
    return "mute@1"


@pytest.fixture
def http(gated):
    with gated.client() as client:
        yield client
        assert client.put("/route", json={"target": "base"}).status_code == 200
        for experiment in client.get("/experiments").json()["data"]:
            if experiment["status"] != "stopped":
                client.post(f"/experiments/{experiment['name']}/stop")
            assert client.delete(f"/experiments/{experiment['name']}").status_code == 204


def begin(http, name, *variants, **settings):
    body = {"name": name, "variants": list(variants), **settings}
    answer = http.post("/experiments", json=body)
    assert answer.status_code == 201, answer.text
    assert http.put("/route", json={"target": f"experiment:{name}"}).status_code == 200
    return answer.json()


def arm(name, mask, weight=1.0, **settings):
    return {"name": name, "mask": mask, "weight": weight, **settings}


def chat(http, number, model="demo", **settings):
    body = {"model": model, "max_tokens": 40, "temperature": 0, "user": f"user-{number}", **settings}
    answer = http.post(
        "/v1/chat/completions",
        json={"messages": [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}], **body},
    )
    assert answer.status_code == 200, answer.text
    return answer.headers


def many(http, numbers):
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda number: chat(http, number), numbers))


def report(http, name, responses):
    """Once so many responses are counted."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        document = http.get(f"/experiments/{name}/report").json()
        if sum(variant["responses"] for variant in document["variants"]) >= responses:
            return document
        time.sleep(0.2)
    raise AssertionError(document)


def test_headers_name_experiment_and_variant_and_users_keep_theirs(http):
    begin(http, "sticky", arm("control", "base"), arm("treated", "alpha@1"))
    first, again = many(http, range(24)), many(http, range(24))
    for one, other in zip(first, again, strict=True):
        assert one["x-excise-experiment"] == "sticky"
        assert one["x-excise-variant"] == other["x-excise-variant"]
        assert one["x-excise-mask"] == {"control": "base", "treated": "alpha@1"}[one["x-excise-variant"]]
        assert one["x-excise-digest"] == {"control": "none", "treated": ALPHA.digest}[one["x-excise-variant"]]
    assert {one["x-excise-variant"] for one in first} == {"control", "treated"}
    explicit = chat(http, 0, model="demo:beta")
    assert explicit["x-excise-digest"] == BETA.digest
    assert "x-excise-experiment" not in explicit
    document = report(http, "sticky", 48)
    assert sum(variant["responses"] for variant in document["variants"]) == 48
    assert sum(variant["units"] for variant in document["variants"]) == 24


def test_an_a_a_experiment_finds_nothing_and_an_a_b_experiment_finds_the_worse_arm(http, mute):
    begin(http, "same", arm("control", "base"), arm("treated", "base"), metric="repetition")
    many(http, range(80))
    assert report(http, "same", 80)["decision"] in ("keep watching", "no difference that matters")
    begin(http, "other", arm("control", "base"), arm("treated", mute), metric="repetition")
    many(http, range(80))
    document = report(http, "other", 80)
    assert document["decision"] == "worse", document
    page = http.get("/experiments/other/report", params={"format": "html"})
    assert page.headers["content-type"].startswith("text/html") and "worse" in page.text
    assert http.get("/experiments/other/report", params={"format": "png"}).content.startswith(b"\x89PNG")


def test_a_guardrail_stops_the_experiment_and_traffic_goes_back(http, mute):
    guardrail = {"metric": "repetition", "direction": "increase", "margin": 0.05}
    begin(http, "guarded", arm("control", "base"), arm("treated", mute), guardrails=[guardrail])
    many(http, range(80))
    deadline = time.monotonic() + 30
    while http.get("/experiments/guarded").json()["status"] == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    stopped = http.get("/experiments/guarded").json()
    assert stopped["status"] == "stopped"
    assert "Repetitive responses" in stopped["reason"]
    assert http.get("/route").json()["target"] == "base"
    assert {headers["x-excise-mask"] for headers in many(http, range(8))} == {"base"}
    entry = next(one for one in http.get("/audit").json()["data"] if one["action"] == "stop by guardrail")
    assert (entry["who"], entry["subject"]) == ("server", "guarded")
    assert 'excise_experiment_stopped_total{experiment="guarded",reason="guardrail"} 1.0' in http.get("/metrics").text


def test_a_mirrored_mask_answers_unseen_and_is_scored(http):
    begin(http, "shadow", arm("control", "base"), arm("shadow", "alpha@1", 0, mirror=1.0), unit="request")
    for number in range(6):
        assert chat(http, number)["x-excise-mask"] == "base"
    document = report(http, "shadow", 12)
    assert {variant["name"]: variant["responses"] for variant in document["variants"]} == {"control": 6, "shadow": 6}
    assert sum(variant["units"] for variant in document["variants"]) == 6


def test_a_request_with_several_prompts_counts_once_in_the_tests(http):
    begin(http, "several", arm("control", "base"), arm("treated", "alpha@1"), unit="request")
    body = {"model": "demo", "prompt": ["One", "Two", "Three"], "max_tokens": 4, "n": 2}
    assert http.post("/v1/completions", json=body).status_code == 200
    document = report(http, "several", 6)
    assert sum(variant["responses"] for variant in document["variants"]) == 6
    assert sum(variant["units"] for variant in document["variants"]) == 1


@pytest.mark.parametrize("given", [{"headers": {"X-Vllm-Priority": "-9"}}, {"json": {"priority": -9}}])
def test_no_client_comes_before_the_others(http, given):
    body = {"model": "demo", "prompt": "Hello", "max_tokens": 4, **given.get("json", {})}
    answer = http.post("/v1/completions", json=body, headers=given.get("headers"))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "priority")


def test_the_winner_becomes_the_default_route_and_can_be_rolled_back(http):
    begin(http, "decided", arm("control", "base"), arm("treated", "alpha@1"))
    answer = http.post("/experiments/decided/stop", json={"winner": "treated"})
    assert answer.json()["status"] == "stopped"
    assert http.get("/route").json()["target"] == "alpha@1"
    assert chat(http, 1)["x-excise-mask"] == "alpha@1"
    assert http.post("/route/rollback").json()["target"] == "base"
    assert chat(http, 1)["x-excise-mask"] == "base"


def test_aliases_move_under_clients_and_hold_their_masks(http):
    assert http.put("/masks/alpha/aliases/candidate", json={"version": 1}).status_code == 200
    assert chat(http, 1, model="demo:alpha@candidate")["x-excise-mask"] == "alpha@1"
    assert "demo:alpha@candidate" in [card["id"] for card in http.get("/v1/models").json()["data"]]
    refused = http.request("DELETE", "/masks/alpha/1")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "in_use")
    assert http.request("DELETE", "/masks/alpha/aliases/candidate").status_code == 204
    assert http.get("/masks/alpha/aliases").json()["data"] == []
