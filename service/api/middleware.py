"""The gateway in front of vLLM's application: access, body limits, routing, and headers that name the mask.

A pure ASGI middleware: a streamed response passes through it chunk by chunk, untouched.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import bootstrap
from service.api.access import INFERENCE, authorize, role
from service.api.answer import Answer
from service.errors import EngineDiedError, InvalidRequestError, ServiceError, TooLargeError
from service.routing import ROUTED, Routed

_UNGENERATED = ("/tokenize", "/detokenize")


class Gateway:
    """Named to vLLM by ``--middleware``; finds the service of its process by itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.service = bootstrap.current()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection: an HTTP request, a web socket (closed: not part of the API), or the application's life."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, self._closing(send))
        elif scope["type"] == "http":
            try:
                await self._request(scope, receive, send)
            except ServiceError as error:
                await JSONResponse(error.body(), error.status)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "not part of this API"})

    def _closing(self, send: Send) -> Send:
        async def wrapped(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown"):
                await self.service.close()
            await send(message)

        return wrapped

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path, headers = scope["method"], scope["path"], Headers(scope=scope)
        settings = self.service.settings
        if method == "OPTIONS":  # a browser's preflight carries no key, and vLLM's CORS settings answer it
            await self.app(scope, receive, send)
            return
        key = headers.get("authorization") or f"Bearer {headers.get('x-api-key', '')}"  # Anthropic's clients send that
        needed = role(method, path, open_probes=settings.open_probes)
        authorize(needed, key, settings.api_keys, settings.admin_keys)
        limit = settings.max_mask_bytes if path == "/masks" else settings.max_body_bytes
        if path not in INFERENCE:
            if path.startswith("/metrics"):
                await self.service.measure()
            if method in ("POST", "PUT"):
                receive = _replay(await _read(receive, headers, limit), receive)
            await self.app(scope, receive, send)
            return
        if self.service.engine_died():
            raise EngineDiedError()
        body = _parse(await _read(receive, headers, limit))
        choice = self.service.choose(body.get("model"), _unit(body))
        ungenerated = path in _UNGENERATED
        body["model"] = self.service.policy.model if ungenerated else await self.service.adapter(choice)
        data = json.dumps(body).encode()
        scope = {**scope, "headers": list(scope["headers"])}
        MutableHeaders(scope=scope)["content-length"] = str(len(data))
        routed = Routed(choice)
        token = ROUTED.set(routed)
        try:
            await self.app(scope, _replay(data, receive), send if ungenerated else Answer(send, routed, self.service))
        finally:
            ROUTED.reset(token)


async def _read(receive: Receive, headers: Headers, limit: int) -> bytes:
    """The whole body. Raises ``TooLargeError`` as soon as it is, or says it is, over ``limit`` bytes."""

    def check(size: int) -> None:
        if size > limit:
            raise TooLargeError(f"the body has {size} bytes or more; the limit here is {limit}", code="body_too_large")

    declared = headers.get("content-length", "")
    check(int(declared) if declared.isdecimal() else 0)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequestError("the client went away before the body was complete", code="incomplete_body")
        body += message.get("body", b"")
        check(len(body))
        if not message.get("more_body", False):
            return bytes(body)


def _parse(data: bytes) -> dict[str, Any]:
    """The body as a JSON object that can be routed. Raises ``InvalidRequestError``."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"the body is not JSON: {error}", code="invalid_json", param="body") from error
    if not isinstance(body, dict):
        raise InvalidRequestError(
            f"the body must be a JSON object, not {type(body).__name__}", code="invalid_json", param="body"
        )
    if not isinstance(body.get("model"), str | None):
        raise InvalidRequestError("'model' must be a string", code="invalid_model", param="model")
    if body.get("use_beam_search"):
        raise InvalidRequestError(
            "beam search is not served: its steps cannot be told from responses; leave 'use_beam_search' out",
            code="not_supported",
            param="use_beam_search",
        )
    return body


def _unit(body: dict[str, Any]) -> str:
    """The key of the split: the user where the body names one, as OpenAI's or Anthropic's clients do; else nobody."""
    metadata = body.get("metadata")
    for user in (body.get("user"), metadata.get("user_id") if isinstance(metadata, dict) else None):
        if isinstance(user, str) and user:
            return user
    return uuid.uuid4().hex


def _replay(data: bytes, receive: Receive) -> Receive:
    """A body that was read, for the application to read again; then whatever comes, such as the disconnect."""
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": data, "more_body": False}

    return replayed
