"""What a running server holds: memory, files, threads, tasks, objects, time series, and bytes in its database.

Tasks and objects are only known inside the server, so it is started with `--middleware benchmarks.census.Census`.
"""

import asyncio
import gc
import os
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.servers import Server

MIDDLEWARE = "benchmarks.census.Census"
_HEADER = "x-census"
_COMMON = 50
"""Objects of a type from which on it is named."""
_POOLED = re.compile(r"/excise\.db|\.ttf$")
_TITLES = {"VLLM::EngineCore": "engine", "VLLM::Worker": "worker", "resource_tracker": "", "spawn_main": "scorer"}
"""Part of a command line → what that process is; the first that fits counts."""


class Census:
    """An ASGI middleware that tells what its process holds, to who asks for `/health` with the header `x-census`.

    With the value `objects` it collects garbage first, and counts objects by type.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer that one question; hand on every other."""
        asked = Headers(scope=scope).get(_HEADER) if scope.get("path") == "/health" else None
        if not asked:
            await self.app(scope, receive, send)
            return
        counts = {"tasks": Counter(map(_named, asyncio.all_tasks()))}
        if asked == "objects":
            gc.collect()
            objects = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
            counts["objects"] = Counter({name: count for name, count in objects.items() if count >= _COMMON})
        await JSONResponse(counts)(scope, receive, send)


def _named(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", "?")


async def told(http: aiohttp.ClientSession, server: Server, *, objects: bool = False) -> dict[str, dict[str, int]]:
    """What the census says: tasks by coroutine and, if asked for, objects by type."""
    async with http.get(f"{server.url}/health", headers={_HEADER: "objects" if objects else "tasks"}) as answer:
        answer.raise_for_status()
        counts: dict[str, dict[str, int]] = await answer.json()
        return counts


async def metrics(http: aiohttp.ClientSession, server: Server) -> tuple[dict[str, float], Counter[str]]:
    """Name of a metric → sum over its labels; and every time series, with its labels.

    Versions and digests of masks are left out of the labels, so that one mask in the place of another is no difference.
    """
    sums: defaultdict[str, float] = defaultdict(float)
    series: list[str] = []
    async with http.get(f"{server.url}/metrics") as answer:
        for name, labels, value in re.findall(r"^([a-zA-Z_:]+)(.*) (\S+)$", await answer.text(), re.MULTILINE):
            sums[name] += float(value)
            series.append(name + re.sub(r"@\d+|[0-9a-f]{64}", "", labels))
    return sums, Counter(series)


def processes(server: Server) -> dict[str, psutil.Process]:
    """The server's processes by role: `api`, `engine`, `scorer` and, where the engine has any, `worker`."""
    api = psutil.Process(server.process.pid)
    by_role = {"api": api}
    for child in api.children(recursive=True):
        command = " ".join(child.cmdline())
        role = next((role for title, role in _TITLES.items() if title in command), "")
        if role:
            by_role[role] = child
    return by_role


def held(server: Server, store: Path) -> dict[str, float]:
    """What the system knows of the processes (`rss` in MiB), and MiB of the database with its journal.

    Open files are counted without those that a pool or a cache holds within its limit: the database's, of which
    SQLAlchemy keeps five connections, and matplotlib's fonts, which it keeps for each thread, 64 at most.
    """
    figures: dict[str, float] = {}
    for role, process in processes(server).items():
        links = list(Path(f"/proc/{process.pid}/fd").iterdir())
        figures[f"{role} rss"] = process.memory_info().rss / 2**20
        figures[f"{role} files"] = sum(not _POOLED.search(_target(link)) for link in links)
        figures[f"{role} threads"] = process.num_threads()
    figures["database"] = sum(file.stat().st_size for file in store.glob("excise.db*")) / 2**20
    return figures


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:  # closed meanwhile
        return ""
