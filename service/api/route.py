"""`/route`: who answers when a request names the model without a suffix."""

from __future__ import annotations

from fastapi import APIRouter

from service import bootstrap
from service.api.schemas import CHANGES, ErrorOut, RouteOut, RouteTo
from service.errors import ConflictError, about
from service.routing.mask_warnings import warnings
from service.service import Service

router = APIRouter(tags=["route"])


def _out(service: Service, target: str) -> RouteOut:
    return RouteOut(model=service.policy.model, target=target, warnings=warnings(service.policy, target))


def _changeable() -> Service:
    service = bootstrap.current()
    if baked := service.capabilities.baked:
        raise ConflictError(
            f"this server was loaded with {baked.label} and serves nothing else", code="mask_not_usable"
        )
    return service


@router.get("/route", responses={401: {"model": ErrorOut}, 403: {"model": ErrorOut}})
async def show() -> RouteOut:
    """The default route in force."""
    service = bootstrap.current()
    return _out(service, service.route())


@router.put("/route", responses=CHANGES)
async def change(body: RouteTo) -> RouteOut:
    """Set the default route, to a mask or an experiment, for the next request on."""
    service = _changeable()
    with about("target"):
        await service.prepare(body.target)
    await service.administer(service.state.set_route, body.target)
    return _out(service, body.target)


@router.post("/route/rollback", responses=CHANGES)
async def roll_back() -> RouteOut:
    """Set the default route back to the target before; again: to the one before that."""
    service = _changeable()
    return _out(service, await service.administer(service.state.rollback_route))
