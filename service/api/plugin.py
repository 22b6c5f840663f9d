"""The ``vllm.endpoint_plugins`` entry point: our routes on vLLM's application, and its engine for the service."""

from __future__ import annotations

import contextlib
import logging
import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException as FastAPIHTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Mount
from starlette.types import ASGIApp

from service import bootstrap
from service.api import aliases, console, experiments, feedback, health, history, masks, models, overview, route
from service.api.access import role
from service.api.validation_messages import NOT_USABLE, describe_errors
from service.errors import InvalidRequestError, MethodNotAllowedError, NotFoundError, ServiceError

_log = logging.getLogger(__name__)


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
    app.router.routes[:] = [route for route in app.routes if not isinstance(route, Mount) or route.path != "/metrics"]
    for module in (aliases, masks, route, experiments, feedback, history, overview, models, health, console):
        app.include_router(module.router)
    build = app.build_middleware_stack

    def built() -> ASGIApp:
        # vLLM sets handlers of its own after the plug-ins. A later one of the same class counts.
        app.exception_handlers |= dict.fromkeys((ServiceError, HTTPException, FastAPIHTTPException), answer)
        app.exception_handlers |= dict.fromkeys((RequestValidationError, TypeError, OverflowError), answer)
        return build()

    app.build_middleware_stack = built  # type: ignore[method-assign]
    describe = app.openapi

    def described() -> dict[str, Any]:
        document = describe()
        document["paths"] = {path: item for path, item in document["paths"].items() if _is_open(path, item)}
        for item in document["paths"].values():
            for call in item.values():
                call["responses"].pop("422", None)  # FastAPI's own shape, which nothing here answers
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
    """An error of ours, or one of the framework's in our words. The gateway gives all of them their shape."""
    if isinstance(error, RequestValidationError):
        error = describe_errors(error.errors(), error.body)
    if isinstance(error, TypeError | OverflowError):  # of a value that vLLM did not look at first
        _log.warning("%s %s: %r", request.method, request.url.path, error)
        error = InvalidRequestError(NOT_USABLE, code="invalid_type")
    if isinstance(error, ServiceError):
        return JSONResponse(error.body(), error.status, error.headers)
    if not isinstance(error, HTTPException):
        raise error
    said = {404: f"there is no route {request.url.path}", 405: f"{request.url.path} does not take {request.method}"}
    message = said.get(error.status_code, str(error.detail))
    return JSONResponse({"error": {"message": message, "param": None}}, error.status_code, error.headers)
