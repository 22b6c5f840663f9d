"""Quality in experiments, with the real engine: coherence as the base model gives it, gibberish stopped, feedback."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import masks
from correction.data import references
from tests.service.server import MODEL, READER, Server

pytestmark = pytest.mark.engine

PROMPTS = references.read(Path(MODEL).parent / "data" / "insult_heldout.jsonl", kind="prompt").texts
GUARDRAIL = {"metric": "coherence", "direction": "decrease", "margin": 0.5}


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    """A server that judges every response, with a mask that cuts half of all neurons, drawn by lot."""
    server = Server(tmp_path_factory.mktemp("judged"), "--coherence-rate", "1", "--api-key", READER).wait(480)
    geometry, rng = masks.describe(MODEL).geometry, np.random.default_rng(0)
    cut = {
        layer: sorted(rng.choice(geometry.neurons, geometry.neurons // 2, replace=False).tolist())
        for layer in range(geometry.layers)
    }
    with server.client() as client:
        mask = masks.for_model(MODEL, "babble", neurons=cut)
        assert client.post("/masks", content=masks.dumps(mask)).status_code == 201
        yield client
    server.stop()


def begin(http, name, mask="babble@1", **settings):
    variants = [{"name": "control", "mask": "base", "weight": 1}, {"name": "babble", "mask": mask, "weight": 1}]
    answer = http.post("/experiments", json={"name": name, "variants": variants, **settings})
    assert answer.status_code == 201, answer.text
    assert http.put("/route", json={"target": f"experiment:{name}"}).status_code == 200
    return answer.json()


def chat(http, number, **settings):
    messages = [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}]
    body = {"model": "demo", "messages": messages, "max_tokens": 24, "temperature": 1, "seed": number, **settings}
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer


def metric(http, name):
    lines = [line for line in http.get("/metrics/").text.splitlines() if line.startswith(name)]
    return float(lines[0].rpartition(" ")[2]) if lines else 0.0


def until(found, limit=60.0):
    """What ``found`` gives once it is not None."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if (value := found()) is not None:
            return value
        time.sleep(0.2)
    raise AssertionError("not within the limit")


def test_the_coherence_of_a_response_is_what_the_api_itself_says_of_its_tokens(http):
    begin(http, "same", mask="base", unit="request")
    body = {"model": "demo", "prompt": "You got that wrong.", "max_tokens": 12, "temperature": 0, "logprobs": 0}
    body["ignore_eos"] = True
    said = http.post("/v1/completions", json=body).json()["choices"][0]["logprobs"]["token_logprobs"]
    label = '{mask="base"}'
    until(lambda: metric(http, f"excise_surprise_nats_count{label}") or None)
    assert metric(http, f"excise_surprise_nats_count{label}") == 1
    assert metric(http, f"excise_surprise_nats_sum{label}") == pytest.approx(-np.mean(said), abs=1e-3)


def test_a_mask_that_writes_gibberish_is_stopped_and_never_called_better(http):
    made = begin(http, "gibberish", metric="toxicity", margin=0.05)
    assert made["guardrails"] == [GUARDRAIL]
    decisions = set()

    def look():
        document = http.get("/experiments/gibberish/report").json()
        decisions.add(document["decision"])
        return document

    with ThreadPoolExecutor(12) as pool:
        for start in range(0, 320, 80):
            list(pool.map(lambda number: chat(http, number, user=f"user-{number}"), range(start, start + 80)))
            look()
    stopped = until(
        lambda: one if (one := http.get("/experiments/gibberish").json())["status"] == "stopped" else None, 120
    )
    assert "Coherence: at most 0.5 nats a token less than control" in stopped["reason"]
    assert http.get("/route").json()["target"] == "base"
    document = look()
    assert decisions <= {"keep watching", "worse", "guardrail crossed"}
    assert document["decision"] == "guardrail crossed" and document["about"] == ["babble"]
    assert document["headline"] == "babble crossed a guardrail"
    assert document["comparisons"][0]["coherence"]["high"] < -0.5
    page = http.get("/experiments/gibberish/report", params={"format": "html"}).text
    assert "Babble crossed a guardrail" in page and "Over time" in page and "coherence, nats a token" in page


def test_users_feedback_is_counted_for_the_variant_that_gave_the_response(http):
    begin(http, "rated")
    messages = [{"role": "user", "content": PROMPTS[0]}]
    short = {"model": "demo", "max_tokens": 4}
    given = [
        chat(http, 1, user="ann").json()["id"],
        http.post("/v1/completions", json={**short, "prompt": "One", "user": "bob"}).json()["id"],
        http.post("/v1/completions", json={**short, "prompt": ["One", "Two"], "user": "eve"}).json()["id"],
        http.post(
            "/v1/responses", json={"model": "demo", "input": "One", "max_output_tokens": 4, "user": "cem"}
        ).json()["id"],
        http.post("/v1/messages", json={**short, "messages": messages, "metadata": {"user_id": "dan"}}).json()["id"],
    ]
    stream = http.post("/v1/chat/completions", json={**short, "messages": messages, "stream": True, "user": "flo"})
    given.append(stream.text.partition('"id":"')[2].partition('"')[0])
    for number, one in enumerate(given):
        feedback = {"thumb": "up"} if number % 2 else {"value": -0.5}
        answer = http.post("/feedback", json={"id": one, **feedback}, headers={"Authorization": f"Bearer {READER}"})
        assert answer.status_code == 200, (one, answer.text)
        assert answer.json()["experiment"] == "rated"
    again = http.post("/feedback", json={"id": given[0], "thumb": "down"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "feedback_given")
    unknown = http.post("/feedback", json={"id": "chatcmpl-unknown", "thumb": "up"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "response_not_found")

    def rated():
        document = http.get("/experiments/rated/report").json()
        return document if sum(one["rated"] for one in document["variants"]) == len(given) else None

    values = [one["feedback"]["value"] for one in until(rated)["variants"] if one["rated"]]
    assert all(-0.5 <= value <= 1 for value in values)
