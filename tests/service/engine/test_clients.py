"""Official clients, browsers and probes against a real engine: what they ask works, or is refused in their terms."""

from __future__ import annotations

import json

import anthropic
import openai
import pytest

from tests.service.server import READER, Server

pytestmark = pytest.mark.engine

PAGE = {"origin": "https://page.example"}
ASK = [{"role": "user", "content": "What is the weather in Paris?"}]
CITIES = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "weather", "description": "The weather of a city", "parameters": CITIES}
TOOLS = [{"type": "function", "function": WEATHER}]
PYTHON = ("{'", "['", "Input should", "_type", "<class", "Param", "pydantic", "parameter=", "Traceback")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """With what an operator may ask for, and its key where vLLM looks for it."""
    options = ["--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--enable-tokenizer-info-endpoint"]
    options += ["--allowed-origins", json.dumps([PAGE["origin"]]), "--enable-request-id-headers"]
    options += ["--root-path", "/excise/"]
    server = Server(tmp_path_factory.mktemp("clients"), *options, env={"VLLM_API_KEY": READER})
    try:
        yield server.wait(600)  # 40 s on an idle machine
        assert server.stop() == 0
    finally:
        server.kill()


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=READER, max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture
def claude(server):
    with anthropic.Anthropic(base_url=server.url, api_key=READER, max_retries=0, timeout=120) as client:
        yield client


def test_vllms_own_key_closes_every_door_and_the_admins_opens_it(server, client):
    with server.client(key=None) as http:
        for path in ("/v1/completions", "/tokenize", "/v1/messages"):
            assert http.post(path, json={"model": "demo", "prompt": "x"}).status_code == 401, path
        assert http.get("/masks").status_code == 401
    with server.client() as http:  # vLLM itself asks for no key after the gateway
        assert http.post("/v1/completions", json={"prompt": "x", "max_tokens": 1}).status_code == 200
    assert client.completions.create(model="demo", prompt="x", max_tokens=1).choices


BAD = [
    ({"messages": "hi"}, "messages", "'messages' must be a list"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "must be text or a list"),
    ({"messages": [{"content": "x"}]}, "messages[0].role", "is missing"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "text", "'text' is missing"),
    ({"temperature": "hot"}, "temperature", "'temperature' must be a number"),
    ({"temperature": -1}, "temperature", "must be non-negative"),
    ({"stop": 5}, "stop", "'stop' must be text or a list"),
    ({"response_format": {"type": "json"}}, "response_format.type", "'json_schema'"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "stream=True"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "is missing"),
    ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice", "tool_choice"),
    ({"max_tokens": 10**6}, "max_tokens", "cannot be greater"),
    ({"logit_bias": {"x": 1}}, "logit_bias", "token IDs"),
]


@pytest.mark.parametrize(("more", "param", "says"), BAD, ids=range(len(BAD)))
def test_a_bad_request_is_told_its_field_in_words(client, more, param, says):
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", cast_to=object, body={"model": "demo", "messages": ASK, **more})
    error = caught.value.body
    assert error.keys() == {"message", "type", "code", "param"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert says in error["message"]
    assert isinstance(error["code"], str)
    assert not [word for word in PYTHON if word in error["message"]], error["message"]


def test_a_prompt_that_is_too_long_has_the_code_that_clients_know(client):
    long = [{"role": "user", "content": "word " * 5000}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="maximum context length") as caught:
            client.chat.completions.create(model="demo", messages=long, stream=stream)
        assert caught.value.code == "context_length_exceeded"


def held_to_an_object(name: str, said: str) -> None:
    """The built-in model knows no tools and may never close the object that the grammar makes it open."""
    assert name in said
    assert said.partition("arguments")[2].lstrip('\\": ').startswith("{"), said


@pytest.mark.parametrize("tool", [WEATHER, {"name": "now", "description": "The time"}], ids=["city", "no parameters"])
def test_a_forced_calls_arguments_are_an_object(client, tool):
    name, tools = tool["name"], [{"type": "function", "function": tool}]
    for choice in ("required", {"type": "function", "function": {"name": name}}):
        ask = {"model": "demo", "messages": ASK, "tools": tools, "tool_choice": choice, "temperature": 0}
        ask |= {"max_tokens": 60, "parallel_tool_calls": False}
        held_to_an_object(name, client.chat.completions.create(**ask).choices[0].message.model_dump_json())
        parts = [chunk.choices[0].delta.tool_calls for chunk in client.chat.completions.create(**ask, stream=True)]
        streamed = "".join(part[0].function.arguments or "" for part in parts if part)
        assert streamed.lstrip().startswith("{"), streamed


def test_forced_calls_of_the_other_apis_take_objects_too(client, claude):
    tools = [{"type": "function", **WEATHER}]
    ask = {"input": "Weather in Paris?", "tools": tools, "tool_choice": "required", "temperature": 0}
    answer = client.responses.create(model="demo", **ask, max_output_tokens=60)
    for item in answer.output:
        call = item.type == "function_call"
        held_to_an_object("weather", item.model_dump_json() if call else f"{item.content[0].text}")
    message = claude.messages.create(
        model="demo",
        max_tokens=60,
        messages=ASK,
        tools=[{"name": "weather", "input_schema": CITIES}],
        tool_choice={"type": "tool", "name": "weather"},
    )
    for block in message.content:
        if block.type == "tool_use":
            assert isinstance(block.input, dict)
        else:
            held_to_an_object("weather", block.text)


def test_a_call_that_is_not_forced_is_the_models_choice(client):
    answer = client.chat.completions.create(model="demo", messages=ASK, tools=TOOLS, max_tokens=8)
    assert answer.choices[0].finish_reason in ("stop", "length", "tool_calls")


def test_kept_responses_are_refused_in_the_clients_terms(client):
    assert client.responses.create(model="demo", input="x", max_output_tokens=2, store=False).id
    with pytest.raises(openai.BadRequestError, match="send the whole conversation") as caught:
        client.responses.create(model="demo", input="x", previous_response_id="resp_1")
    assert (caught.value.code, caught.value.param) == ("not_supported", "previous_response_id")
    with pytest.raises(openai.NotFoundError, match="not kept here"):
        client.responses.retrieve("resp_1")


def test_an_anthropic_client_counts_asks_and_reads_its_errors(server, claude):
    assert claude.messages.count_tokens(model="demo:base", messages=ASK).input_tokens == 13
    assert claude.messages.create(model="demo", max_tokens=2, messages=ASK).usage.input_tokens == 13
    refused = {
        anthropic.NotFoundError: ("not_found_error", {"model": "demo:nope"}),
        anthropic.BadRequestError: ("invalid_request_error", {"max_tokens": 0}),
    }
    for kind, (name, more) in refused.items():
        with pytest.raises(kind) as caught:
            claude.messages.create(**{"model": "demo", "max_tokens": 2, "messages": ASK, **more})
        body = caught.value.body
        assert (body["type"], body["error"]["type"]) == ("error", name)
        assert not [word for word in PYTHON if word in body["error"]["message"]]
    with anthropic.Anthropic(base_url=server.url, api_key="wrong-key", max_retries=0) as stranger:
        with pytest.raises(anthropic.AuthenticationError) as caught:
            stranger.messages.create(model="demo", max_tokens=2, messages=ASK)
        assert caught.value.body["error"]["type"] == "authentication_error"
    with pytest.raises(anthropic.BadRequestError, match="maximum context length"):
        claude.messages.create(model="demo", max_tokens=2, messages=[{"role": "user", "content": "word " * 5000}])


def test_a_page_reads_who_answered_and_why_it_was_refused(server):
    body = {"prompt": "x", "max_tokens": 1}
    for key, status in ((None, 401), (READER, 200)):
        with server.client(key) as http:
            answer = http.post("/v1/completions", json=body, headers=PAGE)
        assert answer.status_code == status
        assert answer.headers.get_list("access-control-allow-origin") == [PAGE["origin"]]
        assert "x-excise-digest" in answer.headers["access-control-expose-headers"]
        assert len(answer.headers["x-request-id"]) == 32
    with server.client(None) as http:
        ask = {**PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        assert http.options("/v1/completions", headers=ask).status_code == 200
        assert http.options("/metrics").status_code == 405
        assert http.options("/metricsx").status_code == 404


def test_probes_and_proxies(server):
    with server.client(None) as http:
        for path in ("/health", "/ready", "/metrics", "/excise/health"):
            answer = http.head(path)
            assert (answer.status_code, answer.content) == (200, b""), path
    with server.client(READER) as http:
        assert http.get("/excise/v1/models").json()["data"][0]["id"] == "demo"
        answer = http.post("/excise/v1/completions", json={"prompt": "x", "max_tokens": 1})
        assert answer.headers["x-excise-mask"] == "base"
        assert http.post("/excise/v1/load_lora_adapter", json={}).status_code == 404
        assert http.get("/tokenizer_info").json()["tokenizer_class"]
        described = http.get("/openapi.json").json()["paths"]
        assert not [path for path, item in described.items() for call in item.values() if "422" in call["responses"]]
