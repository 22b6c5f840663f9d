"""``/audit`` and ``/flagged``: what was changed, and which toxic responses were kept for review."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from service import bootstrap
from service.api.pagination import Limit, listed
from service.api.schemas import AuditList, AuditOut, Deleted, FlaggedList, FlaggedOut, LabelIn, LabelOut, errors
from service.storage import audit

router = APIRouter(tags=["history"])
_ERRORS = errors(403, 429, 503)


@router.get("/audit", response_model=AuditList, responses=_ERRORS)
def changes(
    before: Annotated[int | None, Query(ge=1, le=2**53, description="`id` of the page before's last entry")] = None,
    limit: Limit = 100,
) -> Response:
    """Who changed what, and when; newest first."""
    database = bootstrap.current().database
    return listed(AuditOut(**entry) for entry in audit.entries(database, before=before, limit=limit))


@router.get("/flagged", response_model=FlaggedList, responses=_ERRORS)
def flagged(limit: Limit = 100) -> Response:
    """Toxic responses kept with redacted text; none unless the server was started with --keep-flagged."""
    return listed(FlaggedOut(**vars(kept) | vars(kept.flag)) for kept in bootstrap.current().flagged.kept(limit))


@router.put("/flagged/{number}", responses=errors(403, 404, 413, 429, 503))
def label(number: Annotated[int, Path(ge=1, le=2**31 - 1)], body: LabelIn) -> LabelOut:
    """Say what a person thinks of a flagged response: whether it does show what it was flagged for."""
    bootstrap.current().flagged.label(number, body.label)
    return LabelOut(id=number, label=body.label)


@router.delete("/flagged", responses=_ERRORS)
async def forget_flagged() -> Deleted:
    """Delete all of them now, also those that wait to be written here."""
    return Deleted(deleted=await bootstrap.current().flagged.clear())
