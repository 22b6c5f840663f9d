"""A replica of the service in this process, without an engine: how it is made, called and timed."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import numpy as np
from starlette.types import ASGIApp, Message

import masks
from benchmarks.servers import ADMIN
from service.bootstrap import Service
from service.routing.policy import MaskVersion
from service.settings import parse
from service.storage.database import Database
from service.storage.mask_files import MaskFiles
from service.storage.registry import Registry

MODEL = Path(__file__).resolve().parents[1] / "demo" / "model"
NAME = "demo"
_HEADERS = {"authorization": f"Bearer {ADMIN}", "content-type": "application/json"}


class Everywhere:
    """Stands for an engine in which every mask is resident."""

    dead = False

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    async def ensure(self, version: MaskVersion, *, retry: bool = False) -> str:
        """The name of the mask's adapter."""
        return self._names.setdefault(version.label, f"{NAME}:{version.label}")

    def expect_end(self, *, at_once: bool = False) -> None:
        """It never ends."""

    async def check_health(self) -> None:
        """It is well."""

    async def judge(self, context: Sequence[int], said: Sequence[int]) -> float:
        """Everything makes sense."""
        return -1.0

    async def measure(self) -> None:
        """It has no metrics."""


def replica(folder: Path) -> Service:
    """A replica on the store in `folder`. What lives then is left out of garbage collections, as vLLM does."""
    settings = parse(store=folder, admin_keys=ADMIN, scorer="none", max_masks=10**6, max_admin_calls=10**6)
    files, database = MaskFiles(folder), Database(settings.database_url)
    base, parameters = masks.describe(MODEL, id=NAME), masks.parameters(MODEL)
    registry = Registry(files, database, base, parameters, max_masks=settings.max_masks)
    made = Service(settings, database, registry, NAME, gated=True)
    made.engine = Everywhere()
    gc.collect()
    gc.freeze()
    return made


async def call(app: ASGIApp, method: str, path: str, body: bytes = b"", query: str = "") -> tuple[int, bytes]:
    """One request, as a server would hand it on; returns the status and the body."""
    headers = {**_HEADERS, "content-length": str(len(body))}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode()}
    scope |= {"query_string": query.encode(), "headers": raw, "scheme": "http", "server": ("127.0.0.1", 80)}
    said: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        said.append(message)

    await app(scope | {"client": ("127.0.0.1", 1), "root_path": "", "state": {}}, receive, send)
    return said[0]["status"], b"".join(message.get("body", b"") for message in said)


async def started(app: ASGIApp) -> asyncio.Task[None]:
    """The application's life, begun; cancel the task to end it."""
    begun = asyncio.Event()

    async def receive() -> Message:
        if begun.is_set():
            await asyncio.Event().wait()
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        begun.set()

    async def live() -> None:
        await app({"type": "lifespan", "state": {}}, receive, send)

    life = asyncio.create_task(live())
    await begun.wait()
    return life


class Watch:
    """Microseconds of a piece of work, each time that it was done."""

    def __init__(self) -> None:
        self._wall: list[int] = []
        self._cpu: list[int] = []

    @contextmanager
    def time(self) -> Iterator[None]:
        """Time the block."""
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        yield
        self._wall.append(time.perf_counter_ns() - wall)
        self._cpu.append(time.process_time_ns() - cpu)

    def figures(self, unit: float = 1e3) -> dict[str, float]:
        """Median and 99th percentile; `unit` in nanoseconds."""
        (p50, p99), (cpu50, cpu99) = np.percentile((self._wall, self._cpu), (50, 99), axis=1).T / unit
        figures = {"p50": p50, "p99": p99, "max": max(self._wall) / unit, "cpu_p50": cpu50, "cpu_p99": cpu99}
        return {name: float(f"{value:.4g}") for name, value in figures.items()}


@asynccontextmanager
async def stalls(late: list[float]) -> AsyncIterator[None]:
    """Add to `late` how much too late, in milliseconds, each tick of one millisecond comes while the block runs."""

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append(1000 * (time.perf_counter() - before) - 1)

    task = asyncio.create_task(tick())
    try:
        yield
        await asyncio.sleep(0.002)  # a tick that is late comes yet
    finally:
        task.cancel()


def worst(late: list[float]) -> dict[str, float]:
    """The longest stall, and the 99th percentile of all ticks."""
    return {"max": round(max(late), 1), "p99": round(float(np.percentile(late, 99)), 2), "ticks": len(late)}
