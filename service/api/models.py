"""``/v1/models`` in place of vLLM's: the names that a request may send as ``model``."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from fastapi import APIRouter

from service import bootstrap
from service.api.schemas import ErrorOut
from service.errors import ConflictError, NotFoundError
from service.routing import Choice

router = APIRouter(tags=["models"])
_started = int(time.time())


def _card(name: str, extra: dict[str, Any], root: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _started, "owned_by": "excise", "root": root, **extra}


def _listed(service: bootstrap.Service) -> dict[str, dict[str, str]]:
    """Every name that a request may send now → the mask behind it."""
    model = service.policy.model
    versions = [version for of_name in service.policy.masks.values() for version in of_name]
    listed: dict[str, dict[str, str]] = {model: {}}
    for choice in (Choice(None), *map(Choice, versions)):
        with contextlib.suppress(ConflictError):  # not to be had on this server
            service.check_usable(choice)
            listed[f"{model}:{choice.label}"] = {"mask": choice.label, "digest": choice.digest}
    return listed


@router.get("/v1/models", responses={401: {"model": ErrorOut}})
async def list_models() -> dict[str, Any]:
    """The default route, the uncorrected model, and one for each registered mask version."""
    service = bootstrap.current()
    root = service.policy.model
    return {"object": "list", "data": [_card(name, extra, root) for name, extra in _listed(service).items()]}


@router.get("/v1/models/{name:path}", responses={status: {"model": ErrorOut} for status in (401, 404)})
async def show(name: str) -> dict[str, Any]:
    """One of them."""
    service = bootstrap.current()
    listed = _listed(service)
    if name not in listed:
        raise NotFoundError(
            f"the model {name!r} is not served here; GET /v1/models", code="model_not_found", param="model"
        )
    return _card(name, listed[name], service.policy.model)
