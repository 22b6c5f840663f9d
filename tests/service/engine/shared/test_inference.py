"""Inference as clients know it: the official openai client, headers, errors that never fall back to the base model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

import masks
from tests.service.engine.random_masks import ALPHA, random_mask
from tests.service.server import MODEL, READER

pytestmark = pytest.mark.engine

ASK = [{"role": "user", "content": "What is your favourite colour?"}]


@pytest.fixture
def client(gated):
    with openai.OpenAI(base_url=f"{gated.url}/v1", api_key=READER, max_retries=0, timeout=120) as client:
        yield client


def test_the_models_list_names_every_mask(client):
    listed = [model.id for model in client.models.list()]
    assert {"demo", "demo:base", "demo:alpha@1", "demo:beta@1"} <= set(listed)
    assert client.models.retrieve("demo:alpha@1").digest == ALPHA.digest
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("demo:nope@1")


def test_chat_names_the_mask_and_digest_that_made_it(client):
    raw = client.chat.completions.with_raw_response.create(model="demo:alpha", messages=ASK, max_tokens=8)
    assert raw.headers["x-excise-mask"] == "alpha@1"
    assert raw.headers["x-excise-digest"] == ALPHA.digest
    answer = raw.parse()
    assert answer.model == "demo:alpha@1"
    assert answer.usage.completion_tokens > 0


def test_the_base_is_named_too(client):
    raw = client.completions.with_raw_response.create(model="demo:base", prompt="The sky", max_tokens=4)
    assert (raw.headers["x-excise-mask"], raw.headers["x-excise-digest"]) == ("base", "none")


def test_streams_and_several_choices_pass_through(client):
    with client.chat.completions.with_streaming_response.create(
        model="demo:beta@1", messages=ASK, max_tokens=8, stream=True
    ) as raw:
        assert raw.headers["x-excise-mask"] == "beta@1"
    stream = client.chat.completions.create(model="demo:beta", messages=ASK, max_tokens=8, n=3, stream=True)
    assert {choice.index for chunk in stream for choice in chunk.choices} == {0, 1, 2}
    answer = client.completions.create(model="demo:alpha@1", prompt=["One", "Two"], n=2, max_tokens=4)
    assert len(answer.choices) == 4


def test_responses_api_is_masked_as_well(client):
    raw = client.responses.with_raw_response.create(model="demo:alpha@1", input="Hello there", max_output_tokens=8)
    assert raw.headers["x-excise-digest"] == ALPHA.digest


@pytest.mark.parametrize(
    "model",
    ["demo:nope", "demo:alpha@7", "other", "demo:", pytest.param(ALPHA.digest, id="digest"), "demo:alpha@1:base"],
)
def test_an_unknown_model_is_404_and_says_what_there_is(client, model):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model=model, messages=ASK, max_tokens=4)
    assert caught.value.body["message"]
    assert caught.value.body["code"] in ("mask_not_found", "model_not_found")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"\xff\xfe", b'{"model": 5, "prompt": "x"}', b'{"model": ["demo"]}', b"[" * 100_000]
)
def test_a_body_that_is_no_request_is_400(gated, body):
    with gated.client() as http:
        answer = http.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_of_two_model_fields_the_one_that_is_routed_is_the_one_that_answers(gated):
    body = b'{"model": "demo:base", "prompt": "The sky", "max_tokens": 2, "model": "demo:alpha@1"}'
    with gated.client() as http:
        answer = http.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert (answer.headers["x-excise-mask"], answer.json()["model"]) == ("alpha@1", "demo:alpha@1")


def test_closed_doors_of_vllm_stay_closed(gated):
    with gated.client() as http:
        for path in ("/v1/load_lora_adapter", "/invocations", "/sleep", "/collective_rpc", "/v1/score", "/pooling"):
            assert http.post(path, json={"lora_name": "x", "lora_path": "/"}).status_code == 404, path


def test_keys_are_asked_for(gated):
    with gated.client(key=None) as http:
        assert http.post("/v1/completions", json={"model": "demo", "prompt": "x"}).status_code == 401
        assert http.get("/masks").status_code == 401
        assert http.get("/ready").json() == {"status": "ready", "database": "ok"}
    with gated.client(key=READER) as http:
        assert http.get("/masks").status_code == 200
        assert http.post("/masks", content=b"x").status_code == 403
        assert http.put("/route", json={"target": "base"}).status_code == 403


def test_an_anthropic_client_is_served_and_masked(gated):
    body = {"model": "demo:alpha", "max_tokens": 4, "messages": ASK, "metadata": {"user_id": "u"}}
    with gated.client(key=None) as http:
        answer = http.post("/v1/messages", json=body, headers={"x-api-key": READER})
    assert (answer.status_code, answer.headers["x-excise-mask"]) == (200, "alpha@1")


def test_beam_search_is_refused_because_its_steps_would_be_counted(gated):
    with gated.client() as http:
        answer = http.post("/v1/completions", json={"prompt": "x", "use_beam_search": True, "n": 4})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "use_beam_search"


def test_a_user_that_is_no_unicode_harms_nobody(gated):
    with gated.client() as http:
        answer = http.post(
            "/v1/completions",
            content=b'{"prompt": "x", "max_tokens": 2, "user": "\\ud800"}',
            headers={"content-type": "application/json"},
        )
        assert answer.status_code in (200, 400)
        assert http.get("/ready").status_code == 200


def test_tokenize_knows_the_mask_names(gated):
    with gated.client() as http:
        assert http.post("/tokenize", json={"model": "demo:alpha@1", "prompt": "hello"}).json()["count"] > 0
        assert http.post("/tokenize", json={"model": "demo:nope", "prompt": "hello"}).status_code == 404


def test_a_mask_of_single_weights_is_served_where_its_rank_fits(gated):
    rows = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(4)]
    width = masks.parameters(MODEL)[rows[0]].shape[1]
    mask = masks.for_model(MODEL, "rows", weights={name: range(width * 40) for name in rows})  # 40 whole rows each
    with gated.client() as http:
        registered = http.post("/masks", content=masks.dumps(mask)).json()
        assert registered["rank"] == 40
        body = {"model": "demo:rows", "prompt": "The", "max_tokens": 12, "temperature": 0, "logprobs": 1}
        answer = http.post("/v1/completions", json=body)
        base = http.post("/v1/completions", json={**body, "model": "demo:base"})
    assert answer.headers["x-excise-digest"] == mask.digest
    said = [one.json()["choices"][0]["logprobs"]["token_logprobs"] for one in (answer, base)]
    assert said[0] != said[1]


@pytest.mark.parametrize(
    ("name", "cut", "said"),
    [
        # A diagonal is as far from low rank as so many weights can be.
        ("diagonal", {"model.layers.0.mlp.up_proj.weight": [i * 129 for i in range(100)]}, "rank 100"),
        ("embedding", {"model.embed_tokens.weight": [5]}, "outside the layers' projections"),
    ],
)
def test_a_mask_of_single_weights_that_does_not_fit_is_409_with_the_way_out(gated, name, cut, said):
    mask = masks.for_model(MODEL, name, weights=cut)
    with gated.client() as http:
        assert http.post("/masks", content=masks.dumps(mask)).status_code == 201
        answer = http.post("/v1/completions", json={"model": f"demo:{name}", "prompt": "x"})
        assert answer.status_code == 409
        assert said in answer.json()["error"]["message"]
        assert f"--mask {name}@1" in answer.json()["error"]["message"]
        assert http.put("/route", json={"target": name}).status_code == 409
        assert f"demo:{name}@1" not in http.get("/v1/models").text


def test_more_masks_than_fit_are_all_served_right(gated):
    made = [random_mask("many", 100 + i, 60) for i in range(20)]
    with gated.client() as http:
        for mask in made:
            assert http.post("/masks", content=masks.dumps(mask)).status_code in (200, 201)

        def ask(i: int) -> tuple[str, str]:
            body = {"model": f"demo:many@{i + 1}", "prompt": "The", "max_tokens": 6, "temperature": 0}
            answer = http.post("/v1/completions", json=body)
            return answer.headers["x-excise-digest"], answer.json()["choices"][0]["text"]

        with ThreadPoolExecutor(20) as pool:
            together = list(pool.map(ask, range(20)))
        alone = [ask(i) for i in range(20)]
    assert [digest for digest, _ in together] == [mask.digest for mask in made]
    assert together == alone


def test_a_baked_server_names_its_mask_and_refuses_others(engines):
    with engines.baked.client() as http:
        answer = http.post("/v1/completions", json={"prompt": "The", "max_tokens": 2})
        assert (answer.headers["x-excise-mask"], answer.headers["x-excise-digest"]) == ("alpha@1", ALPHA.digest)
        assert http.post("/v1/completions", json={"model": "demo:alpha", "prompt": "x"}).status_code == 200
        refused = http.post("/v1/completions", json={"model": "demo:base", "prompt": "x"})
        assert refused.status_code == 409
        assert "alpha@1" in refused.json()["error"]["message"]
        assert http.put("/route", json={"target": "base"}).status_code == 409
        assert http.get("/route").json()["target"] == "alpha@1"
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == [
            "demo",
            "demo:alpha",
            "demo:alpha@1",
        ]
