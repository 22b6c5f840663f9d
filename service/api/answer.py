"""The answer to an inference request: named after the mask that made it, as the engine reports it."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import Message, Scope, Send

from service.bootstrap import Service
from service.errors import EngineDiedError
from service.routing import Routed


class Answer:
    """An ASGI ``send`` that adds ``x-excise-mask`` and ``x-excise-digest``, and in an experiment which and where.

    What an endpoint sends before the engine has answered waits until it has; after that, everything passes through at
    once. Where the engine died first, the client gets 503.
    """

    def __init__(self, send: Send, routed: Routed, service: Service) -> None:
        self._send = send
        self._routed = routed
        self._service = service
        self._waiting: list[Message] = []
        self._open = False
        self._refused = False
        self.failed = False
        """Whether the client got an error of the server's."""

    async def __call__(self, message: Message) -> None:
        """Pass a message on, or keep it until the mask is known."""
        if self._open:
            if not self._refused:
                await self._send(message)
            return
        self._waiting.append(message)
        start, digest = self._waiting[0], self._routed.digest
        unfinished = message is start or message.get("more_body", False)
        if start["status"] < 400 and digest is None and unfinished:
            return
        self._open = True
        self.failed = start["status"] >= 500
        if (digest is None or start["status"] >= 500) and self._service.engine_died():
            self._refused = self.failed = True
            await JSONResponse(EngineDiedError().body(), EngineDiedError.status)(_NOTHING, _receive, self._send)
            return
        if start["status"] < 400 and digest is not None:
            headers = MutableHeaders(raw=start.setdefault("headers", []))
            headers["x-excise-mask"] = self._routed.choice.label
            headers["x-excise-digest"] = digest or "none"
            if assigned := self._routed.choice.assigned:
                headers["x-excise-experiment"] = assigned.experiment
                headers["x-excise-variant"] = assigned.variant
        for held in self._waiting:
            await self._send(held)
        self._waiting.clear()


_NOTHING: Scope = {"type": "http"}


async def _receive() -> Message:
    return {"type": "http.disconnect"}
