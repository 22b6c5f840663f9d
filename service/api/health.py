"""`/ready`: may this server be sent traffic? (`/health` is vLLM's own.) `/metrics` in place of vLLM's."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from service import bootstrap, metrics
from service.api.schemas import ErrorOut
from service.errors import UnavailableError

router = APIRouter(tags=["health"])


@router.get("/ready", responses={503: {"model": ErrorOut}})
async def ready() -> dict[str, str]:
    """200 when the engine answers and masks can be served; also without the database, then by what is known.

    `database` is `ok`, `lost`, or `moved` where SQLite's file is no longer where it was.
    """
    service = bootstrap.current()
    service.ending.check()
    engine = service.engine
    if engine is None:
        raise UnavailableError("the engine is still starting", code="engine_not_ready")
    try:
        await engine.check_health()
    except Exception as error:
        raise UnavailableError(f"the engine does not answer: {error}", code="engine_not_ready") from error
    lost = "moved" if service.background_tasks.moved else "lost"
    return {"status": "ready", "database": lost if service.background_tasks.lost else "ok"}


@router.api_route("/metrics/", methods=["GET", "HEAD"], include_in_schema=False)
@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", response_class=PlainTextResponse)
def show_metrics() -> Response:
    """Every metric, for Prometheus. Made in a thread: vLLM's mount would hold the event loop up for as long."""
    content, media_type = metrics.exposition()
    return Response(content, headers={"content-type": media_type})
