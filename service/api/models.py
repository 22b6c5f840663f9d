"""``/v1/models`` in place of vLLM's: the names that a request may send as ``model``."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from fastapi import APIRouter, Response

from service import bootstrap
from service.api.pages import listed
from service.api.schemas import ErrorOut
from service.errors import ConflictError, NotFoundError
from service.routing import Choice, Unit

router = APIRouter(tags=["models"])
_started = int(time.time())


def _card(name: str, extra: dict[str, Any], root: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _started, "owned_by": "excise", "root": root, **extra}


def _served(service: bootstrap.Service) -> dict[str, dict[str, str]]:
    """Every name that a request may send now → the mask behind it."""
    model = service.policy.model
    versions = [version for of_name in service.policy.masks.values() for version in of_name.values()]
    listed: dict[str, dict[str, str]] = {model: {}}
    for choice in (Choice(None), *map(Choice, versions)):
        with contextlib.suppress(ConflictError):  # not to be had on this server
            service.abilities.check(choice)
            listed[f"{model}:{choice.label}"] = {"mask": choice.label, "digest": choice.digest}
    for name, aliases in service.policy.aliases.items():
        for alias, version in aliases.items():
            if target := listed.get(f"{model}:{name}@{version}"):
                listed[f"{model}:{name}@{alias}"] = target
    return listed


@router.get("/v1/models", response_model=dict[str, Any], responses={401: {"model": ErrorOut}})
def list_models() -> Response:
    """The default route, the uncorrected model, each registered mask version, and each alias."""
    service = bootstrap.current()
    root = service.policy.model
    return listed(_card(name, extra, root) for name, extra in _served(service).items())


@router.get("/v1/models/{name:path}", responses={status: {"model": ErrorOut} for status in (401, 404)})
async def show(name: str) -> dict[str, Any]:
    """One of them."""
    service = bootstrap.current()
    model = service.policy.model
    extra: dict[str, str] = {}
    if name != model:
        try:
            choice = service.choose(name, Unit(""))
        except (NotFoundError, ConflictError) as error:
            raise NotFoundError(
                f"the model {name!r} is not served here; GET /v1/models", code="model_not_found", param="model"
            ) from error
        extra = {"mask": choice.label, "digest": choice.digest}
    return _card(name, extra, model)
