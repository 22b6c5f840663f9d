"""Tool calls that a request forces: their arguments follow the tool's schema.

vLLM holds the arguments of a tool without `strict` to any JSON at all (`resolve_tool_strictness` in
vllm/tool_parsers/structural_tag_registry.py, `_get_function_parameters` in xgrammar), so that `null` or `false`
may be what a model calls a tool with. Clients read an object.
"""

from __future__ import annotations

from typing import Any

_FORCED = ("required", "any", "function", "tool", "custom")
"""`tool_choice`, or its `type`, in OpenAI's and Anthropic's APIs."""


def enforce_tool_schema(body: dict[str, Any]) -> None:
    """Where `tool_choice` forces a call, take tools that say nothing of `strict` as strict ones, in place.

    A tool without `parameters` takes an object. What is no tool is left for vLLM to refuse.
    """
    choice, tools = body.get("tool_choice"), body.get("tools")
    if isinstance(choice, dict):
        choice = choice.get("mode", choice.get("type"))  # allowed_tools have a mode
    if choice not in _FORCED or not isinstance(tools, list):
        return
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or "name" not in function or function.get("strict") is not None:
            continue
        function["strict"] = True
        if "input_schema" not in function and not function.get("parameters"):
            function["parameters"] = {"type": "object"}
