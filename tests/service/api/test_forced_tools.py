"""Tool calls that are forced: tools that say nothing of ``strict`` are strict ones, and nothing else is touched."""

from __future__ import annotations

import copy

import pytest

from service.api.forced_tools import enforce_tool_schema

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
NAMED = {"type": "function", "function": {"name": "weather"}}


def chat(**function):
    return {"type": "function", "function": {"name": "weather", **function}}


@pytest.mark.parametrize(
    "choice", ["required", NAMED, {"type": "allowed_tools", "mode": "required", "tools": []}], ids=str
)
def test_a_forced_call_is_held_to_the_schema(choice):
    body = {"tool_choice": choice, "tools": [chat(parameters=SCHEMA), chat(), chat(parameters={})]}
    enforce_tool_schema(body)
    anything = {"type": "object"}
    assert body["tools"] == [chat(parameters=one, strict=True) for one in (SCHEMA, anything, anything)]


def test_the_responses_and_anthropics_apis_are_read_as_well():
    flat = {"type": "function", "name": "weather"}
    body = {"tool_choice": {"type": "function", "name": "weather"}, "tools": [{**flat, "parameters": SCHEMA}, flat]}
    enforce_tool_schema(body)
    assert body["tools"][0] == {**flat, "parameters": SCHEMA, "strict": True}
    assert body["tools"][1]["parameters"] == {"type": "object"}
    for choice in ({"type": "any"}, {"type": "tool", "name": "weather"}):
        body = {"tool_choice": choice, "tools": [{"name": "weather", "input_schema": SCHEMA}]}
        enforce_tool_schema(body)
        assert body["tools"] == [{"name": "weather", "input_schema": SCHEMA, "strict": True}]


@pytest.mark.parametrize(
    "body",
    [
        {"tool_choice": "auto", "tools": [chat()]},
        {"tool_choice": "none", "tools": [chat()]},
        {"tool_choice": {"type": "auto"}, "tools": [{"name": "weather", "input_schema": SCHEMA}]},
        {"tools": [chat()]},
        {"tool_choice": "required", "tools": [chat(strict=False, parameters=SCHEMA)]},
        {"tool_choice": "required", "tools": [{"type": "web_search"}, "x", None, {"function": 5}]},
        {"tool_choice": "required", "tools": "x"},
        {"tool_choice": ["required"], "tools": [chat()]},
    ],
    ids=range(8),
)
def test_everything_else_stays_as_it_is(body):
    before = copy.deepcopy(body)
    enforce_tool_schema(body)
    assert body == before
