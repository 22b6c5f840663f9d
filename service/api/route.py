"""``/route``: who answers when a request names the model without a suffix."""

from __future__ import annotations

from fastapi import APIRouter

from service import bootstrap
from service.api.schemas import ErrorOut, RouteOut, RouteSplit, RouteTo
from service.errors import ConflictError

router = APIRouter(tags=["route"])


@router.get("/route", responses={401: {"model": ErrorOut}})
async def show() -> RouteOut:
    """The default route in force."""
    service = bootstrap.current()
    return RouteOut.of(service.route(), service.policy.model)


@router.put("/route", responses={status: {"model": ErrorOut} for status in (400, 401, 403, 404, 409, 413, 503)})
async def change(body: RouteTo | RouteSplit) -> RouteOut:
    """Set the default route, one target or a weighted split by user, for the next request on."""
    service = bootstrap.current()
    if service.baked:
        raise ConflictError(
            f"this server was loaded with {service.baked.label} and serves nothing else", code="mask_not_usable"
        )
    return RouteOut.of(await service.set_route(body.shares()), service.policy.model)
