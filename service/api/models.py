"""`/v1/models` in place of vLLM's: the names that a request may send as `model`."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from fastapi import APIRouter, Response

from service import bootstrap
from service.api.pagination import listed
from service.api.schemas import ErrorOut
from service.errors import ConflictError, NotFoundError
from service.routing.policy import BASE, EXPERIMENT, Choice, Unit, resolve
from service.service import Service

router = APIRouter(tags=["models"])
_started = int(time.time())


def _card(service: Service, name: str, choice: Choice | None) -> dict[str, Any]:
    """`choice`: who answers, or None where each request is routed anew. `created` is when that was registered."""
    made = {"mask": choice.label, "digest": choice.digest or "none"} if choice else {}
    version = choice.version if choice else None
    created = version.registered if version else _started
    root = service.policy.model
    return {"id": name, "object": "model", "created": created, "owned_by": "excise", "root": root, **made}


def _default(service: Service) -> Choice | None:
    """Who answers the model's name alone; None in an experiment."""
    with contextlib.suppress(ConflictError):  # led there by a replica that can do more
        return None if service.route().startswith(EXPERIMENT) else service.choose(None, Unit(""))
    return None


def _served_names(service: Service) -> dict[str, Choice | None]:
    """Every name that a request may send now → who answers it."""
    policy = service.policy
    choices: dict[str, Choice | None] = {policy.model: _default(service)}
    for name, versions in ((BASE, {}), *policy.masks.items()):
        aliases = policy.aliases.get(name, {})
        names = [f"{name}@{number}" for number in versions] + [f"{name}@{alias}" for alias in sorted(aliases)]
        for target in (name, *names):
            with contextlib.suppress(ConflictError):  # not to be had on this server
                choice = resolve(policy, target)
                service.capabilities.check(choice)
                choices[f"{policy.model}:{target}"] = choice
    return choices


@router.get("/v1/models", response_model=dict[str, Any], responses={401: {"model": ErrorOut}})
def list_models() -> Response:
    """The default route, the uncorrected model, each registered mask, its versions, and its aliases."""
    service = bootstrap.current()
    return listed(_card(service, *one) for one in _served_names(service).items())


@router.get("/v1/models/{name:path}", responses={status: {"model": ErrorOut} for status in (401, 404)})
async def show(name: str) -> dict[str, Any]:
    """One of them."""
    service = bootstrap.current()
    if name == service.policy.model:
        return _card(service, name, _default(service))
    try:
        return _card(service, name, service.choose(name, Unit("")))
    except (NotFoundError, ConflictError) as error:
        raise NotFoundError(
            f"the model {name!r} is not served here; GET /v1/models lists those that are",
            code="model_not_found",
            param="model",
        ) from error
