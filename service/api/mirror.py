"""Mirrored requests: a copy is answered under another mask, scored, and thrown away. Never shown, never waited for."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Scope

from service import metrics
from service.errors import ServiceError
from service.routing.policy import ROUTED, Choice, Routed
from service.service import Service

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/messages")
"""Calls that can be mirrored; those of `/v1/responses` may have tools that act, which would act twice."""

PRIORITY_HEADER = "x-vllm-priority"
PRIORITY = 1000
"""In vLLM's scheduler lower comes first; what clients send has 0."""

_NOT_COPIED = ("stream", "stream_options", "request_id")
"""Nobody reads the copy as it comes, and its name must not be that of the request."""

_log = logging.getLogger(__name__)


class Mirror:
    """Sends copies through the application itself, a bounded number at a time."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, scope: Scope, body: dict[str, Any], choice: Choice, unit: str) -> None:
        """Begin to answer a copy of `body` under `choice`; left out, and counted, where too many are under way."""
        if len(self._tasks) >= self._service.settings.max_mirrored:
            metrics.MIRROR_DROPPED.inc()
            return
        task = asyncio.create_task(self._answer(scope, body, choice, unit), name="excise-mirror")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, scope: Scope, body: dict[str, Any], choice: Choice, unit: str) -> None:
        routed = Routed(choice, unit, shown=False)
        ROUTED.set(routed)  # this task has a context of its own
        status = 500
        try:
            data = json.dumps(await self._copy(body, choice)).encode()
            headers = MutableHeaders(raw=[pair for pair in scope["headers"] if pair[0] != b"x-request-id"])
            headers["content-length"] = str(len(data))
            headers[PRIORITY_HEADER] = str(PRIORITY)  # which vLLM takes before the body's field
            status = await self._call({**scope, "headers": headers.raw, "state": dict(scope.get("state", {}))}, data)
        except ServiceError as error:
            status = error.status
            _log.warning("a mirrored request failed: %s", error)
        except Exception:
            _log.exception("a mirrored request failed")
        if status >= 500 and not self._service.ending.begun:
            self._service.recorder.failed(routed)

    async def _copy(self, body: dict[str, Any], choice: Choice) -> dict[str, Any]:
        copy = {key: value for key, value in body.items() if key not in _NOT_COPIED}
        copy["model"] = await self._service.adapter(choice)
        return copy

    async def _call(self, scope: Scope, data: bytes) -> int:
        """Run the application; returns the status."""
        status, sent = 500, False
        gone = asyncio.Event()

        async def receive() -> Message:
            nonlocal sent
            if sent:
                await gone.wait()  # until the end: a copy has no client that could leave
                return {"type": "http.disconnect"}
            sent = True
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]

        await self._app(scope, receive, send)
        return status
