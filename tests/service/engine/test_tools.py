"""What a forced tool call may hold: asked of the grammar that vLLM makes of a request, with and without our pin.

In a process of its own, because vLLM warns as it is imported. No engine: the grammar is what the engine obeys.
"""

from __future__ import annotations

import json

import pytest

from tests.forked import forked_program

PROBE = """
import json, sys
import xgrammar
from xgrammar.testing import _is_grammar_accept_string as accepts
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.tool_parsers.structural_tag_registry import get_model_structural_tag
from service.api.forced_tools import enforce_tool_schema

city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
said = ("null", "false", "5", "[]", "{}", '{"city": "Paris"}', '{"city": 5}')
found = {}
for name, parameters in (("city", {"parameters": city}), ("none", {})):
    for way, change in (("plain", lambda body: None), ("pinned", enforce_tool_schema)):
        tool = {"type": "function", "function": {"name": "w", **parameters}}
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": [tool]}
        body["tool_choice"] = "required"
        change(body)
        request = ChatCompletionRequest(**body)
        tag = get_model_structural_tag("hermes", request.tools, request.tool_choice, False)
        grammar = xgrammar.Grammar.from_structural_tag(tag)
        call = '<tool_call>{"name": "w", "arguments": %s}</tool_call>'
        found[f"{name} {way}"] = [one for one in said if accepts(grammar, call % one)]
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def found():
    run = forked_program(PROBE)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def test_a_forced_calls_arguments_follow_the_tools_schema(found):
    assert found["city pinned"] == ['{"city": "Paris"}']


def test_a_tool_without_parameters_takes_any_object_and_nothing_else(found):
    assert found["none pinned"] == ["{}", '{"city": "Paris"}', '{"city": 5}']


def test_vllm_alone_lets_any_json_pass_which_is_why_we_pin(found):
    for way in ("city plain", "none plain"):
        assert {"null", "false", "5", "[]"} <= set(found[way])
