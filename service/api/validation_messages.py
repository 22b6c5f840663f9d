"""What a request lacks, in words: the schema's complaints as one sentence that names the field.

FastAPI and vLLM hand out pydantic's own list: Python's types, and every branch of a union by the name of its class.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from service.errors import InvalidRequestError

NO_JSON = "this call takes JSON; send it with the header 'Content-Type: application/json'"

NOT_USABLE = "a value of the request is of a kind that cannot be used"

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a number",
    "decimal": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "iterable": "a list",
    "dict": "an object",
    "model": "an object",
    "dataclass": "an object",
    "mapping": "an object",
    "none": "null",
}
"""By the first word of pydantic's error type, for those that end as `_KIND` says."""
_KIND = ("_type", "_parsing", "_from_float", "_parsing_size", "_attributes_type", "_required", "_number")
_BOUNDS = {
    "greater_than": "over {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "under {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text of the form {pattern}",
}
_PRINTED = re.compile(r"^(?P<field>\S+)\n  (?P<msg>.+?) \[type=(?P<type>\w+)", re.MULTILINE)
"""One complaint as pydantic prints it: the path with dots, and what it says."""
_LIST = re.compile(r"\[('[^']*'(?:, '[^']*')*)\]")
"""A list of texts as Python writes it."""
_MOST = 5
"""Fields that one sentence names, and kinds of a value."""


def describe_errors(errors: Sequence[Any], body: Any) -> InvalidRequestError:
    """The error for what pydantic found. `errors`: of `RequestValidationError.errors()`; `body`: what was sent.

    `param` is the first field as OpenAI writes it, `messages[0].role`; `code` is one of OpenAI's, too. Of a
    union, whose branches all complain, the field counts that most of them name, and of two the deeper one. No value
    is said back.
    """
    field_errors = [error for error in errors if isinstance(error, Mapping)]
    if not field_errors:  # vLLM, of the content type
        return InvalidRequestError(NO_JSON, code="invalid_content_type", param="body")
    groups: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for error in field_errors:
        field = _field(error, body)
        groups.setdefault(field.partition(".")[0].partition("[")[0], []).append((field, error))
    said: list[tuple[str, str, Mapping[str, Any]]] = []
    for group in groups.values():
        counts = Counter(field for field, _ in group)
        field = max(counts, key=lambda one: (counts[one], one.count(".") + one.count("[")))
        complaints = [error for one, error in group if one == field]
        said.append((field, _sentence(field, complaints), complaints[0]))
    more = f"; and {len(said) - _MOST} fields more" if len(said) > _MOST else ""
    field, _, first = said[0]
    sent = body if isinstance(body, dict) else {}
    branches = {loc[1] for error in field_errors if len(loc := error["loc"]) > 2 and loc[0] == "body"} - sent.keys()
    joint = ", or " if len(branches) > 1 else "; "  # a body of one kind or another
    message = joint.join(sentence for _, sentence, _ in said[:_MOST]) + more
    parameter = getattr(first.get("ctx", {}).get("error"), "parameter", None)  # vLLM's checks name the field themselves
    return InvalidRequestError(message, code=_code(first["type"]), param=parameter or field or "body")


def describe_printed(message: str) -> InvalidRequestError | None:
    """The error for what pydantic printed into `message`, by its first complaint; None where it printed nothing."""
    match = _PRINTED.search(message)
    if not match:
        return None
    field = match["field"].rpartition(".")[2]
    return InvalidRequestError(_sentence(field, [match.groupdict()]), code=_code(match["type"]), param=field)


def _field(error: Mapping[str, Any], body: Any) -> str:
    """The path of the field, as far as it is one: unions add the names of their branches to pydantic's `loc`."""
    where, *parts = error.get("loc") or ("body",)
    if where != "body":  # of the URL or a header
        return str(parts[0]) if parts else ""
    path, value = "", body
    for place, part in enumerate(parts):
        if part in value if isinstance(value, dict) else isinstance(value, list) and part in range(len(value)):
            value = value[part]
        elif not (error["type"] == "missing" and place == len(parts) - 1):
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


def _sentence(field: str, errors: Sequence[Mapping[str, Any]]) -> str:
    name = f"'{field}'" if field else "the body"
    kind = errors[0]["type"]
    if kind == "missing":
        return f"{name} is missing"
    if kind == "extra_forbidden":
        return f"{name} is no field of this call"
    if kind == "json_invalid":
        return "the body is not JSON"
    if kind in ("value_error", "assertion_error"):
        return own_message(str(errors[0].get("ctx", {}).get("error", "")) or errors[0]["msg"], field)
    wanted = list(dict.fromkeys(one for error in errors if (one := _wanted(error))))
    others = ["something else"] if len(wanted) > _MOST else []
    return f"{name} must be {' or '.join(wanted[:_MOST] + others)}"


def own_message(said: str, field: str) -> str:
    """A check's own sentence, with the field where it names none."""
    said = said.removeprefix("Value error, ").partition(" (parameter=")[0]
    said = _LIST.sub(r"\1", said)
    if field and said.startswith("must "):
        return f"'{field}' {said}"
    return said if not field or field.rpartition(".")[2] in said else f"'{field}': {said}"


def _wanted(error: Mapping[str, Any]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if (form := _BOUNDS.get(kind)) and context:
        whole = {
            key: int(one) if isinstance(one, float) and one.is_integer() else one for key, one in context.items()
        }  # 0.0 reads as 0
        return form.format_map(whole)
    word = kind.partition("_")[0]
    if word in _KINDS and kind.removeprefix(word) in _KIND:
        return _KINDS[word]
    return str(error["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")


def _code(kind: str) -> str:
    """OpenAI's codes."""
    if kind == "missing":
        return "missing_required_parameter"
    if kind == "extra_forbidden":
        return "unknown_parameter"
    return "invalid_type" if kind.partition("_")[0] in _KINDS and kind.endswith(_KIND) else "invalid_value"
