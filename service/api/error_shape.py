"""One shape for every error that leaves the server, ours or vLLM's: OpenAI's, or Anthropic's on its paths."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from service.api.validation_messages import NOT_USABLE, describe_printed, own_message
from service.errors import InternalError, ServiceError

ANTHROPIC = ("/v1/messages", "/v1/messages/count_tokens")
"""Calls of Anthropic's API, whose clients read errors of its shape."""

_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
"""By status; other refusals are an `invalid_request_error`, failures an `api_error`."""

_CODES = {404: "not_found", 405: "method_not_allowed", 429: "too_many_requests", 501: "not_supported"}
_TOO_LONG = re.compile(r"maximum context length|longer than the maximum model length", re.IGNORECASE)

_PYTHON = re.compile(
    r"unhashable type|object has no attribute|object is not |unsupported operand|not supported between instances"
    r"|positional argument|unexpected keyword|codec can't|NoneType|must be str, not"
)
"""What Python says of a value that vLLM did not look at first."""

_IN_STREAM = b'data: {"error":'
"""How vLLM says in a stream that begun well that it failed: the status is sent by then."""

_log = logging.getLogger(__name__)


class ErrorShaper:
    """An ASGI `send` that holds an answer of status 400 or more until it is complete, and sends it in one shape."""

    def __init__(self, send: Send, path: str) -> None:
        self._send = send
        self._path = path
        self._start: Message | None = None
        self._body = bytearray()
        self.begun = False
        """Whether the client got a status."""

    async def __call__(self, message: Message) -> None:
        """Pass a message on, or keep it until the error is complete."""
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._start = message
            return
        if self._start is None or message["type"] != "http.response.body":
            self.begun = True
            if message.get("body", b"").startswith(_IN_STREAM):
                message = {**message, "body": _event(message["body"])}
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        start, self._start = self._start, None
        start["status"] = 400 if start["status"] == 422 else start["status"]
        data = json.dumps(document(start["status"], bytes(self._body), self._path), ensure_ascii=False)
        encoded = data.encode(errors="replace")  # a client's half of a surrogate pair
        headers = MutableHeaders(raw=start.setdefault("headers", []))
        headers["content-type"], headers["content-length"] = "application/json", str(len(encoded))
        self.begun = True
        await self._send(start)
        await self._send({"type": "http.response.body", "body": encoded})


def document(status: int, body: bytes, path: str) -> dict[str, Any]:
    """The error that the client is to read, for what an endpoint of `path` answered with `status`."""
    error = _ours(body) or _worded(status, body)
    if path not in ANTHROPIC:
        return {"error": error}
    failed = "api_error" if status >= 500 else "invalid_request_error"
    return {"type": "error", "error": {"type": _ANTHROPIC_TYPES.get(status, failed), "message": error["message"]}}


def _event(event: bytes) -> bytes:
    """A stream's error event in our shape; what is no single event is left as it is."""
    try:
        error = json.loads(event.removeprefix(b"data: "))["error"]
        status = int(error["code"])
    except (ValueError, TypeError, KeyError):
        return event
    return b"data: " + json.dumps({"error": _worded(status, json.dumps({"error": error}).encode())}).encode() + b"\n\n"


def _error(body: bytes) -> Any:
    """What stands under `error` or `detail`, or the body as it is."""
    try:
        parsed = json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
    return (parsed.get("error") or parsed.get("detail") or parsed) if isinstance(parsed, dict) else parsed


def _ours(body: bytes) -> dict[str, Any] | None:
    """An error that is worded already: vLLM's codes are numbers."""
    error = _error(body)
    if isinstance(error, dict) and error.keys() == {"message", "type", "code", "param"}:
        return error if isinstance(error["code"], str) else None
    return None


def _worded(status: int, body: bytes) -> dict[str, Any]:
    """Our error for one of vLLM's, FastAPI's or Starlette's. Of a failure the log alone says more."""
    error = _error(body)
    message = error.get("message", "") if isinstance(error, dict) else error
    param = error.get("param") if isinstance(error, dict) else None
    message = message if isinstance(message, str) else ""
    if status >= 500 and status != 501:
        _log.error("answered %d: %s", status, message)
        return _inner(InternalError())
    kinds = {kind.status: kind.type for kind in ServiceError.__subclasses__()}
    code = _CODES.get(status, "invalid_request")
    if status == 400 and _TOO_LONG.search(message):
        code = "context_length_exceeded"
    if status == 400 and (invalid := describe_printed(message)):
        return _inner(invalid)
    if _PYTHON.search(message):
        _log.warning("answered %d: %s", status, message)
        message = NOT_USABLE
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"message": own_message(message, ""), "type": kind, "code": code, "param": param}


def _inner(error: ServiceError) -> dict[str, Any]:
    details: dict[str, Any] = error.body()["error"]
    return details
