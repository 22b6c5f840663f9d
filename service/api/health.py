"""``/ready``: may this server be sent traffic? (``/health`` is vLLM's own.)"""

from __future__ import annotations

from fastapi import APIRouter

from service import bootstrap
from service.api.schemas import ErrorOut
from service.errors import UnavailableError

router = APIRouter(tags=["health"])


@router.get("/ready", responses={503: {"model": ErrorOut}})
async def ready() -> dict[str, str]:
    """200 when the engine answers and masks can be served; also without the database, then by what is known."""
    service = bootstrap.current()
    service.ending.check()
    engine = service.engine
    if engine is None:
        raise UnavailableError("the engine is still starting", code="engine_not_ready")
    try:
        await engine.check_health()
    except Exception as error:
        raise UnavailableError(f"the engine does not answer: {error}", code="engine_not_ready") from error
    return {"status": "ready", "database": "lost" if service.upkeep.lost else "ok"}
