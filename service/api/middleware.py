"""The gateway in front of vLLM's application: access, body limits, routing, and headers that name the mask.

A pure ASGI middleware: a streamed response passes through it chunk by chunk, untouched.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import uuid
from typing import Any

from starlette._utils import get_route_path
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import bootstrap, metrics
from service.api.access import INFERENCE, Role, authorize, role, who
from service.api.error_shape import ErrorShaper
from service.api.forced_tools import enforce_tool_schema
from service.api.masked_response import MaskedResponse
from service.api.mirror import PATHS, PRIORITY_HEADER, Mirror
from service.api.prompt import last_said
from service.api.rate_limits import AdminLimit, check_choices
from service.api.unsupported import check_supported
from service.errors import (
    EngineDiedError,
    InternalError,
    InvalidRequestError,
    ServerEndingError,
    ServiceError,
    TooLargeError,
)
from service.routing.policy import ROUTED, Routed, Unit, copied
from service.storage import audit

_UNGENERATED = ("/tokenize", "/detokenize", "/v1/messages/count_tokens")
_LONGEST_JSON = 2**18
"""Bytes of a call's JSON that asks for no response of the model: it is parsed on the event loop."""
_LONGEST_USER = 256
"""Characters; of a longer one a digest stands for it, as it is kept in memory for a while."""

_log = logging.getLogger(__name__)


class Gateway:
    """Named to vLLM by `--middleware`; finds the service of its process by itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.service = bootstrap.current()
        self._mirror = Mirror(app, self.service)
        self._admin_limit = AdminLimit(self.service.settings.max_admin_calls)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection: an HTTP request, a web socket (closed: not part of the API), or the application's life."""
        if scope["type"] == "lifespan":
            if scope["app"].openapi_url:
                scope["app"].openapi()  # it takes a second: now, while nobody waits; the application keeps it
            await self.app(scope, receive, self._living(scope, send))
        elif scope["type"] == "http":
            shaped = ErrorShaper(send, get_route_path(scope))
            try:
                await self._request(scope, receive, shaped)
            except ServiceError as error:
                await JSONResponse(error.body(), error.status, error.headers)(scope, receive, shaped)
            except ClientDisconnect:
                return  # nobody to answer
            except Exception:
                if shaped.begun:
                    raise  # the server breaks the connection: the client must not take a part for the whole
                _log.exception("%s %s failed", scope["method"], scope["path"])
                failed = InternalError()
                await JSONResponse(failed.body(), failed.status)(scope, receive, shaped)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "not part of this API"})

    def _living(self, scope: Scope, send: Send) -> Send:
        """Follow the application's life: once it is up, signals end it as the service says; then the service closes."""
        server = getattr(scope["app"].state, "server", None)  # vLLM's launcher leaves it there

        async def wrapped(message: Message) -> None:
            if server and message["type"] == "lifespan.startup.complete":
                self.service.ending.listen(lambda: setattr(server, "should_exit", True))
            if message["type"].startswith("lifespan.shutdown"):
                await self._mirror.close()
                await self.service.close()
            await send(message)

        return wrapped

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The path as the routers see it, which leave --root-path out.
        method, path, headers = scope["method"], get_route_path(scope), Headers(scope=scope)
        settings = self.service.settings
        key = headers.get("authorization") or f"Bearer {headers.get('x-api-key', '')}"  # Anthropic's clients send that
        needed = role(method, path, open_probes=settings.open_probes)
        authorize(needed, key, self.service.keys)
        if method not in ("GET", "HEAD"):
            self.service.ending.check()
        if path in INFERENCE:
            body = _parse(b"".join(await _read(receive, headers, settings.max_body_bytes)))
            await self._inference(path, scope, receive, send, body)
            return
        if path.startswith("/metrics"):
            metrics.sweep()
            await self.service.measure()
        if needed is Role.ADMIN:
            caller = who(key)
            self._admin_limit.take(caller)
            audit.WHO.set(caller)
        if method in ("POST", "PUT", "PATCH"):
            limit = min(_LONGEST_JSON, settings.max_body_bytes) if path != "/masks" else settings.max_mask_bytes
            chunks = await _read(receive, headers, limit)
            if path != "/masks":
                _check_json(b"".join(chunks), headers)
            receive = _replay(chunks, receive)
        if needed is Role.ADMIN and method != "GET":
            await self.service.follow()  # what was set through another replica a moment ago counts here too
        if method == "HEAD":  # FastAPI's routes know GET alone
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        await self.app(scope, receive, send)

    async def _inference(self, path: str, scope: Scope, receive: Receive, send: Send, body: dict[str, Any]) -> None:
        """Route a request that names a model, let vLLM answer it, and count it if it fails."""
        service, headers = self.service, Headers(scope=scope)
        self._check_inference(path, body, headers)
        unit = _unit(body, headers, service.settings.unit_header)
        choice = service.choose(body.get("model"), unit)
        if path in _UNGENERATED:
            body["model"] = service.policy.model
            await self.app(*_sent(scope, body, receive), send)
            return
        key = unit.user or unit.request
        if path in PATHS and (copy := copied(service.policy, choice, unit)):
            self._mirror.send(scope, body, copy, key)
        routed = Routed(choice, key, prompt=last_said(body) if self.service.settings.keep_flagged else "")
        await self._generate(path, scope, receive, send, body, routed)

    def _check_inference(self, path: str, body: dict[str, Any], headers: Headers) -> None:
        """Refuse what is not served here."""
        if self.service.engine_died():
            raise EngineDiedError()
        check_supported(path, body)
        check_choices(body, self.service.settings.max_choices)
        enforce_tool_schema(body)
        self._check_priority(body, headers)

    async def _generate(
        self, path: str, scope: Scope, receive: Receive, send: Send, body: dict[str, Any], routed: Routed
    ) -> None:
        """Let vLLM answer under the mask that was chosen. An error that the server is to blame for is counted."""
        service, answer, failed = self.service, MaskedResponse(send, routed, self.service, path), False
        token = ROUTED.set(routed)
        service.intake.coherence.users += 1
        try:
            with service.ending.awaited(answer):
                body["model"] = await service.adapter(routed.choice)
                await self.app(*_sent(scope, body, receive), answer)
        except Exception as error:
            expected = isinstance(error, ServiceError | ClientDisconnect)
            failed = not expected or getattr(error, "status", 0) >= 500
            if not expected and service.ending.begun:
                await answer.cut(ServerEndingError())
            if not answer.cut_off:
                raise
        finally:
            ROUTED.reset(token)
            service.intake.coherence.users -= 1
            if (failed or answer.failed) and not service.ending.begun:
                service.recorder.failed(routed)

    def _check_priority(self, body: dict[str, Any], headers: Headers) -> None:
        """Who comes first is no client's to say, unless the operator chose so: mirrored requests need the order."""
        if (body.get("priority") or PRIORITY_HEADER in headers) and not self.service.client_priority:
            raise InvalidRequestError(
                f"'priority' (or {PRIORITY_HEADER}) is not taken here; the operator allows it with "
                "--scheduling-policy priority",
                code="not_supported",
                param="priority",
            )


def _sent(scope: Scope, body: dict[str, Any], receive: Receive) -> tuple[Scope, Receive]:
    """The request with `body` in place of its own."""
    data = json.dumps(body).encode()
    scope = {**scope, "headers": list(scope["headers"])}
    MutableHeaders(scope=scope)["content-length"] = str(len(data))
    return scope, _replay([data], receive)


async def _read(receive: Receive, headers: Headers, limit: int) -> list[bytes]:
    """The whole body, in pieces as they came: to put a large one together takes time.

    Raises:
        TooLargeError: it is, or declares itself, over `limit` bytes; as soon as that is known.
        InvalidRequestError: the client went away first.
    """

    def check(size: int) -> None:
        if size > limit:
            raise TooLargeError(f"the body has {size} bytes or more; the limit here is {limit}", code="body_too_large")

    declared = headers.get("content-length", "")
    check(int(declared) if declared.isdecimal() else 0)
    body, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequestError("the client went away before the body was complete", code="incomplete_body")
        body.append(message.get("body", b""))
        size += len(body[-1])
        check(size)
        if not message.get("more_body", False):
            return body


def _parse(data: bytes) -> dict[str, Any]:
    """The body as a JSON object that can be routed.

    Raises:
        InvalidRequestError: it is not one.
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _no_json(error) from error
    if not isinstance(body, dict):
        raise InvalidRequestError("the body must be a JSON object", code="invalid_json", param="body")
    if not isinstance(body.get("model"), str | None):
        raise InvalidRequestError("'model' must be a string", code="invalid_model", param="model")
    return body


def _check_json(data: bytes, headers: Headers) -> None:
    """Refuse what only some readers take for JSON, or what no answer could repeat.

    Raises:
        InvalidRequestError: it is one of these, or not declared as JSON.
    """
    if not data:
        return
    if not re.match(r"application/(.+\+)?json\b", headers.get("content-type", ""), re.IGNORECASE):
        raise InvalidRequestError(
            "this call takes JSON; send it with the header 'Content-Type: application/json'",
            code="invalid_content_type",
            param="body",
        )
    try:
        json.dumps(json.loads(data), allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidRequestError(
            "the body has half a surrogate pair, which is no character", code="invalid_json", param="body"
        ) from None
    except (ValueError, RecursionError) as error:
        raise _no_json(error) from error


def _no_json(error: Exception) -> InvalidRequestError:
    if isinstance(error, json.JSONDecodeError):
        why = f"{error.msg.lower()} in line {error.lineno}, column {error.colno}"
    elif isinstance(error, UnicodeDecodeError):
        why = "it is no UTF-8 text"
    elif isinstance(error, RecursionError):
        why = "it is nested too deeply"
    else:
        why = "it holds a number that is not finite, or has thousands of digits"
    return InvalidRequestError(f"the body is not JSON: {why}", code="invalid_json", param="body")


def _unit(body: dict[str, Any], headers: Headers, header: str) -> Unit:
    """Who asks: the user where the body names one, as OpenAI's or Anthropic's clients do, or else `header`.

    OpenAI replaces `user` by `safety_identifier`; with both, who was known by `user` stays the same.
    """
    metadata = body.get("metadata")
    named = (
        body.get("user"),
        body.get("safety_identifier"),
        metadata.get("user_id") if isinstance(metadata, dict) else None,
    )
    user = next((one for one in named if isinstance(one, str) and one), "")
    if not user and header:
        user = headers.get(header, "")
    if len(user) > _LONGEST_USER:
        user = hashlib.sha256(user.encode(errors="surrogatepass")).hexdigest()
    return Unit(uuid.uuid4().hex, user)


def _without_body(send: Send) -> Send:
    async def headers_only(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return headers_only


def _replay(body: list[bytes], receive: Receive) -> Receive:
    """A body that was read, for the application to read again; then all later messages, such as the disconnect."""
    left = list(reversed(body))

    async def replayed() -> Message:
        if not left:
            return await receive()
        return {"type": "http.request", "body": left.pop(), "more_body": bool(left)}

    return replayed
