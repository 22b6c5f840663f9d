"""The page on the HTTP API, from the description of the application and the list of open routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from docs.generate.markdown import cell, first_sentence, prose, table
from service.api import access, plugin

HEAD = """\
# HTTP API

This is all that is open: every other path is closed. A *reader* call takes an API key, where the server has any; an
*admin* call takes an admin key, and answers 403 on a server without one. An admin key also reads. Keys are sent as
`Authorization: Bearer KEY`. An *open* call takes no key, unless `EXCISE_OPEN_PROBES` is off. `GET /openapi.json`
describes the same to machines, with vLLM's own schemas.

Errors have one shape, `{"error": {"message", "type", "code", "param"}}`: `code` is a word, and `param` the field at
fault, as in `messages[0].content`. On Anthropic's paths they have Anthropic's shape. What is wrong with a request is
400, never 422. Of a failure (500) only the log says why. Times are ISO 8601 in UTC.
"""
FROM_VLLM = {
    "/v1/chat/completions": "OpenAI's chat completions; `model` chooses the mask. No beam search",
    "/v1/completions": "OpenAI's completions. No beam search",
    "/v1/responses": "OpenAI's responses; nothing is kept",
    "/v1/messages": "Anthropic's messages",
    "/v1/messages/count_tokens": "Anthropic's count of the tokens of a request",
    "/tokenize": "From text to token ids",
    "/detokenize": "From token ids to text",
    "/openapi.json": "This API, described",
    "/tokenizer_info": "The tokenizer; there with `--enable-tokenizer-info-endpoint`",
}
"""Calls that vLLM answers, unchanged but for the choice of the mask."""

_BOUNDS = (("from", "minimum"), ("over", "exclusiveMinimum"), ("to", "maximum"), ("under", "exclusiveMaximum"))


def page() -> Iterator[str]:
    """Every open call: who may make it, what it takes, what it answers."""
    document = described()
    schemas = document["components"]["schemas"]
    yield HEAD
    yield table(("call", "key", "what"), calls(document["paths"]))
    yield "\n## Calls"
    for path, item in document["paths"].items():
        for method, call in item.items():
            yield f"\n### {method.upper()} {path}\n"
            yield prose(call.get("description") or call.get("summary")) + "\n"
            if rows := [*query(call), *body(call, schemas)]:
                yield table(("what it takes", "type", "what"), rows) + "\n"
            yield f"Answers: {answers(call)}."
    yield "\n## Objects"
    for name, schema in schemas.items():
        if schema.get("properties") and not name.startswith(("Body_", "HTTPValidation", "Validation")):
            yield f"\n### {name}\n"
            yield prose(schema.get("description")) + "\n"
            yield table(("field", "type", "what"), fields(schema))


def described() -> dict[str, Any]:
    """The OpenAPI document of our routes."""
    app = FastAPI(title="Excise")
    plugin.attach(app)
    return app.openapi()


def calls(paths: dict[str, Any]) -> Iterator[list[str]]:
    """Each open call in the order in which the gateway lists them."""
    for path, methods in access.ROUTES.items():
        known: dict[str, Any] = next((item for route, item in paths.items() if _shape(route) == _shape(path)), {})
        for method, role in methods.items():
            if method == "HEAD" or path.endswith("/"):
                continue
            call = known.get(method.lower(), {})
            what = FROM_VLLM.get(path) or first_sentence(call.get("description") or call.get("summary"))
            also = " or `HEAD`" if "HEAD" in methods else ""
            yield [f"`{method} {path}`{also}", role.value, what]


def _shape(path: str) -> tuple[str, ...]:
    return tuple("{}" if part.startswith("{") else part for part in path.split("/"))


def query(call: dict[str, Any]) -> Iterator[list[str]]:
    """The parameters after the question mark."""
    for each in call.get("parameters", ()):
        if each["in"] == "query":
            default = each["schema"].get("default")
            description = cell(each.get("description"))
            yield [
                f"`{each['name']}`, query",
                kind(each["schema"]),
                description or ("" if default is None else f"default {default}"),
            ]


def body(call: dict[str, Any], schemas: dict[str, Any]) -> Iterator[list[str]]:
    """The body: the fields of its object, or its media type."""
    for media, content in call.get("requestBody", {}).get("content", {}).items():
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        if name:
            yield from fields(schemas[name])
        else:
            yield [f"body, `{media}`", kind(content["schema"]), ""]


def fields(schema: dict[str, Any]) -> Iterator[list[str]]:
    """The fields of an object."""
    for name, each in schema.get("properties", {}).items():
        needed = "required" if name in schema.get("required", ()) else ""
        default = each.get("default")
        note = f"default `{default}`" if default not in (None, "", [], {}) and "const" not in each else needed
        yield [f"`{name}`", kind(each), "; ".join(filter(None, (cell(each.get("description")), note)))]


def answers(call: dict[str, Any]) -> str:
    """The status codes, and the object of those that are no errors."""
    statuses = []
    for status, answer in call["responses"].items():
        names = {kind(each.get("schema", {})) for each in answer.get("content", {}).values()} - {""}
        statuses.append(f"{status} {', '.join(sorted(names))}".strip() if status < "300" else status)
    return ", ".join(statuses)


def kind(schema: dict[str, Any]) -> str:
    """The type of a JSON schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if parts := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(kind(each) for each in parts))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items', {}))}".removesuffix(" of ")
    bounds = [f"{word} {schema[key]:,}" for word, key in _BOUNDS if key in schema]
    return " ".join([str(schema.get("format") or schema.get("type", "")), *bounds])
