"""The answer to an inference request: named after the mask that made it, as the engine reports it."""

from __future__ import annotations

import json

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import Message, Scope, Send

from service.errors import EngineDiedError, ServerEndingError, ServiceError
from service.routing.policy import Routed
from service.service import Service


class MaskedResponse:
    """An ASGI `send` that adds `x-excise-mask` and `x-excise-digest`, and in an experiment which and where.

    What an endpoint sends before the engine has answered waits until it has; after that, everything passes through at
    once. Where the engine died or was shut down first, the client gets 503.
    """

    def __init__(self, send: Send, routed: Routed, service: Service, path: str = "") -> None:
        self._send = send
        self._path = path
        self._routed = routed
        self._service = service
        self._waiting: list[Message] = []
        self._open = False
        self._streams = False
        self._complete = False
        self._refused = False
        self.failed = False
        """Whether the client got an error of the server's."""
        self.cut_off = False
        """Whether that came in the place of what the endpoint was doing: what it sends from now on is dropped."""

    async def __call__(self, message: Message) -> None:
        """Pass a message on, or keep it until the mask is known."""
        if self._open:
            if not self._refused:
                await self._pass(message)
            return
        self._waiting.append(message)
        start = self._waiting[0]
        unfinished = message is start or message.get("more_body", False)
        if start["status"] < 400 and self._routed.digest is None and unfinished:
            return
        self._open = True
        self.failed = start["status"] >= 500
        if error := self._service_error(start["status"]):
            await self._refuse(error)
            return
        if start["status"] < 400 and self._routed.digest is not None:
            self._name_mask(start, self._routed.digest)
        self._streams = Headers(raw=start.get("headers", [])).get("content-type", "").startswith("text/event-stream")
        while self._waiting and not self._refused:
            await self._pass(self._waiting.pop(0))

    async def cut(self, error: ServiceError) -> None:
        """Tell the client `error` and nothing more: as the answer, or as the last event of a stream that has begun.

        A document that is being sent is left alone: there is no place for an error in it.
        """
        if self._complete or self._refused or (self._open and not self._streams):
            return
        self.cut_off = True
        if not self._open:
            self._open = True
            await self._refuse(error)
        else:
            self._refused = self.failed = True
            await self._send({"type": "http.response.body", "body": self._event(error), "more_body": False})

    def _service_error(self, status: int) -> ServiceError | None:
        """What the client gets in place of the endpoint's answer, where that is for the server's death or end."""
        if (self._routed.digest is None or status >= 500) and self._service.engine_died():
            return EngineDiedError()
        if status >= 500 and self._service.ending.begun:
            return ServerEndingError()
        return None

    def _name_mask(self, start: Message, digest: str) -> None:
        headers = MutableHeaders(raw=start.setdefault("headers", []))
        headers["x-excise-mask"] = self._routed.choice.label
        headers["x-excise-digest"] = digest or "none"
        if assigned := self._routed.choice.assigned:
            headers["x-excise-experiment"] = assigned.experiment
            headers["x-excise-variant"] = assigned.variant

    async def _pass(self, message: Message) -> None:
        self._complete = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def _refuse(self, error: ServiceError) -> None:
        self._refused = self.failed = True
        await JSONResponse(error.body(), error.status, error.headers)(_NOTHING, _receive, self._send)

    def _event(self, error: ServiceError) -> bytes:
        """As the clients of OpenAI's and of Anthropic's API know it."""
        if self._path == "/v1/messages":
            body = {"type": "error", "error": {"type": "overloaded_error", "message": error.message}}
            return f"event: error\ndata: {json.dumps(body)}\n\n".encode()
        return f"data: {json.dumps(error.body())}\n\ndata: [DONE]\n\n".encode()


_NOTHING: Scope = {"type": "http"}


async def _receive() -> Message:
    return {"type": "http.disconnect"}
