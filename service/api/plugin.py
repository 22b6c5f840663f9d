"""The ``vllm.endpoint_plugins`` entry point: our routes on vLLM's application, and its engine for the service."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from service import bootstrap
from service.api import aliases, experiments, feedback, health, history, masks, models, route
from service.api.access import role
from service.errors import MethodNotAllowedError, NotFoundError, ServiceError


class ExcisePlugin:
    """See vllm/plugins/endpoint_plugins/interface.py for the contract."""

    name = "excise"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Add our routes; those of the same path replace vLLM's."""
        attach(app)

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Wire the running engine to the service, after checking that its gates are in place."""
        from service.engine import connect

        await connect.connect(bootstrap.current(), engine_client, state.openai_serving_models)


def attach(app: FastAPI) -> None:
    """Add every route of Excise, and how its errors are answered, to ``app``."""
    for module in (aliases, masks, route, experiments, feedback, history, models, health):
        app.include_router(module.router)
    app.add_exception_handler(ServiceError, answer)
    app.add_exception_handler(HTTPException, answer)
    describe = app.openapi

    def described() -> dict[str, Any]:
        document = describe()
        document["paths"] = {path: item for path, item in document["paths"].items() if _is_open(path, item)}
        return document

    app.openapi = described  # type: ignore[method-assign]


def _is_open(path: str, item: dict[str, Any]) -> bool:
    """Whether the gateway lets any of the described methods of a path through."""
    for method in item:
        with contextlib.suppress(NotFoundError, MethodNotAllowedError):
            role(method.upper(), re.sub(r"\{[^}]*\}", "1", path))
            return True
    return False


async def answer(request: Request, error: Exception) -> JSONResponse:
    """An error as the client sees it: OpenAI's shape, whoever raised it."""
    if isinstance(error, HTTPException):
        body = {"message": str(error.detail), "type": "invalid_request_error", "code": None, "param": None}
        return JSONResponse({"error": body}, error.status_code, error.headers)
    if not isinstance(error, ServiceError):
        raise error
    return JSONResponse(error.body(), error.status, error.headers)
