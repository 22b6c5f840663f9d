"""``/audit`` and ``/flagged``: what was changed, and which toxic responses were kept for review."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query

from service import audit, bootstrap
from service.api.schemas import AuditList, AuditOut, FlaggedList, FlaggedOut, errors

router = APIRouter(tags=["history"])
_ERRORS = errors(403, 429, 503)


@router.get("/audit", responses=_ERRORS)
async def changes(
    before: Annotated[int | None, Query(ge=1, le=2**53, description="`id` of the page before's last entry")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditList:
    """Who changed what, and when; newest first."""
    database = bootstrap.current().database
    entries = await asyncio.to_thread(audit.entries, database, before=before, limit=limit)
    return AuditList(data=[AuditOut(**entry) for entry in entries])


@router.get("/flagged", responses=_ERRORS)
async def flagged(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> FlaggedList:
    """Toxic responses kept with redacted text; none unless the server was started with --keep-flagged."""
    kept = await asyncio.to_thread(bootstrap.current().flagged.latest, limit)
    return FlaggedList(data=[FlaggedOut(**vars(flag)) for flag in kept])
