"""What a request lacks: a sentence with the field's name, no Python in it, whatever pydantic says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from service.api.validation_messages import describe_errors


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


class Text(BaseModel):
    type: Literal["text"]
    text: str


class Image(BaseModel):
    type: Literal["image"]
    url: str


class Message(BaseModel):
    role: Literal["user", "system"]
    content: str | list[Text | Image]


class Call(BaseModel):
    model_config = ConfigDict(extra="forbid")
    messages: list[Message] = Field(min_length=1)
    temperature: float = Field(1, ge=0, le=2)
    n: int = 1
    stop: str | list[str] | None = None
    stream: bool = False
    steps: Annotated[int, AfterValidator(_even)] = 0
    name: str = Field("a", pattern="^[a-z]+$", max_length=3)


GOOD: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}]}

WORDED = [
    ({}, "'messages' is missing", "messages", "missing_required_parameter"),
    ({**GOOD, "best": 1}, "'best' is no field of this call", "best", "unknown_parameter"),
    ({**GOOD, "temperature": "hot"}, "'temperature' must be a number", "temperature", "invalid_type"),
    ({**GOOD, "temperature": -1}, "'temperature' must be at least 0", "temperature", "invalid_value"),
    ({**GOOD, "n": 1.5}, "'n' must be a whole number", "n", "invalid_type"),
    ({**GOOD, "n": None}, "'n' must be a whole number", "n", "invalid_type"),
    ({**GOOD, "stream": "maybe"}, "'stream' must be true or false", "stream", "invalid_type"),
    ({**GOOD, "stop": 5}, "'stop' must be text or a list", "stop", "invalid_type"),
    ({**GOOD, "stop": ["a", 5]}, "'stop[1]' must be text", "stop[1]", "invalid_type"),
    ({**GOOD, "steps": 3}, "'steps' must be even", "steps", "invalid_value"),
    ({**GOOD, "name": "abcd"}, "'name' must be text of at most 3 characters", "name", "invalid_value"),
    ({**GOOD, "name": "A"}, "'name' must be text of the form ^[a-z]+$", "name", "invalid_value"),
    ({"messages": "hi"}, "'messages' must be a list", "messages", "invalid_type"),
    ({"messages": []}, "'messages' must be a list of at least 1", "messages", "invalid_value"),
    (
        {"messages": [{"role": "alien", "content": "x"}]},
        "'messages[0].role' must be 'user' or 'system'",
        "messages[0].role",
        "invalid_value",
    ),
    (
        {"messages": [{"content": "x"}]},
        "'messages[0].role' is missing",
        "messages[0].role",
        "missing_required_parameter",
    ),
    (
        {"messages": [{"role": "user", "content": 5}]},
        "'messages[0].content' must be text or a list",
        "messages[0].content",
        "invalid_type",
    ),
    ([], "the body must be an object", "body", "invalid_type"),
    (
        {**GOOD, "n": "x", "stream": "maybe"},
        "'n' must be a whole number; 'stream' must be true or false",
        "n",
        "invalid_type",
    ),
]


@pytest.mark.parametrize(("body", "message", "param", "code"), WORDED, ids=[case[1] for case in WORDED])
def test_a_complaint_is_a_sentence_with_the_fields_name(body, message, param, code):
    with pytest.raises(ValidationError) as caught:
        Call.model_validate(body)
    errors = [{**error, "loc": ("body", *error["loc"])} for error in caught.value.errors()]
    error = describe_errors(errors, body)
    assert (error.message, error.param, error.code) == (message, param, code)


def test_many_fields_are_named_in_part_and_counted():
    body = {**GOOD, **{f"x{n}": 1 for n in range(9)}}
    with pytest.raises(ValidationError) as caught:
        Call.model_validate(body)
    error = describe_errors([{**one, "loc": ("body", *one["loc"])} for one in caught.value.errors()], body)
    assert error.message.count("is no field") == 5
    assert error.message.endswith("; and 4 fields more")


def test_many_kinds_are_named_in_part():
    errors = [
        {"loc": ("body", "type"), "type": "literal_error", "msg": "…", "ctx": {"expected": f"'{one}'"}}
        for one in "abcdefg"
    ]
    error = describe_errors(errors, {"type": "z"})
    assert error.message == "'type' must be 'a' or 'b' or 'c' or 'd' or 'e' or something else"


def test_a_body_of_one_kind_or_another_lacks_the_one_or_the_other():
    kinds = (("Completion", "prompt"), ("Chat", "messages"))
    errors = [{"loc": ("body", kind, name), "type": "missing", "msg": "Field required"} for kind, name in kinds]
    assert describe_errors(errors, {"model": "demo"}).message == "'prompt' is missing, or 'messages' is missing"


def test_the_field_of_a_url_is_named():
    error = describe_errors([{"loc": ("query", "limit"), "type": "int_parsing", "msg": "Input …"}], None)
    assert (error.message, error.param) == ("'limit' must be a whole number", "limit")


def test_a_check_of_vllms_own_keeps_its_words_and_loses_its_python():
    class RefusedError(ValueError):
        parameter = "stream_options"

    message = "Stream options can only be defined when `stream=True`."
    said = RefusedError(f"{message} (parameter=stream_options, value={{'a': 1}})")
    error = describe_errors(
        [{"loc": ("body",), "type": "value_error", "msg": "Value error, …", "ctx": {"error": said}}], {}
    )
    assert error.message == message
    assert error.param == "stream_options"


def test_what_is_no_json_says_what_to_send():
    error = describe_errors(["Unsupported Media Type: Only 'application/json' is allowed"], None)
    assert (error.code, error.param) == ("invalid_content_type", "body")
