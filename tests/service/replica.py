"""One replica without vLLM: our routes behind our gateway, and a small stand-in for the engine and its endpoints.

The engine's own tests run the real one; here it is scripted, so that a test can make it slow, refuse, or fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

import masks
from service import bootstrap
from service.api.access import INFERENCE
from service.api.cross_origin import CrossOrigin
from service.api.middleware import Gateway
from service.api.plugin import attach
from service.errors import UnavailableError
from service.experiments.outcomes import queries
from service.routing.policy import ROUTED
from service.scoring.response import Response as Said
from service.scoring.response import Scored
from service.service import Service
from service.settings import Settings
from service.storage.database import Database
from service.storage.mask_files import MaskFiles
from service.storage.registry import Registry
from tests.service.server import MODEL

ADMIN, OTHER_ADMIN, READER = "an-admin-key", "another-admin-key", "a-reader-key"
CURRENT: ContextVar[Service] = ContextVar("replica")
"""The service whose request is at hand: several replicas live in one process here."""

Script = Callable[[dict[str, Any]], Awaitable[Response | None]]


class Clock:
    """Seconds since 1970, as the test says."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Engine:
    """Stands in for ``service.engine.residency.Residency``."""

    def __init__(self) -> None:
        self.dead = False
        self.refused: set[str] = set()
        self.ensured: list[str] = []
        self.judged: list[tuple[list[int], list[int]]] = []
        self.coherence = -1.0

    async def ensure(self, version, *, retry: bool = False) -> str:
        self.ensured.append(version.label)
        if version.label in self.refused:
            raise UnavailableError(f"mask {version.label} could not be made resident", code="mask_not_resident")
        return f"demo:{version.label}"

    def expect_end(self, *, at_once: bool = False) -> None:
        pass

    async def judge(self, context, said) -> float:
        self.judged.append((list(context), list(said)))
        return self.coherence

    async def check_health(self) -> None:
        if self.dead:
            raise RuntimeError("dead")

    async def measure(self) -> None:
        pass


class Replica:
    """A service on a database and a store, and its application. ``seen``: what reached the endpoints, in order."""

    def __init__(
        self,
        folder: Path,
        url: str,
        clock: Clock | None = None,
        *,
        root_path: str = "",
        cross_origin: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.clock = clock or Clock()
        given = {"admin_keys": (ADMIN, OTHER_ADMIN), "api_keys": (READER,), "scorer": "none", **settings}
        self.settings = Settings(store=folder, database=url, **given)
        self.database = Database(url)
        base, parameters = _model()
        registry = Registry(MaskFiles(folder), self.database, base, parameters, max_masks=self.settings.max_masks)
        self.service = Service(self.settings, self.database, registry, "demo", gated=True, clock=self.clock)
        self.service.intake.scores = True  # as far as experiments ask; the tests put scores in themselves
        self.engine = self.service.engine = Engine()
        self.seen: list[tuple[dict[str, str], dict[str, Any], Any]] = []
        self.receives: list[Callable[[], Awaitable[Any]]] = []
        self.script: Script | None = None
        self.service.cross_origin = cross_origin or {}
        app = FastAPI(root_path=root_path)
        attach(app)
        for path in sorted(INFERENCE):
            app.post(path)(self._answer)
        token = CURRENT.set(self.service)
        app.add_middleware(Gateway)
        app.add_middleware(CrossOrigin)
        self._app = app
        self._app.middleware_stack = app.build_middleware_stack()
        CURRENT.reset(token)

    async def __call__(self, scope, receive, send) -> None:
        CURRENT.set(self.service)
        await asyncio.create_task(self._app(scope, receive, send))  # a context for each request, as a server has it

    async def _answer(self, request: Request) -> Response:
        body = await request.json()
        routed = ROUTED.get()
        self.seen.append((dict(request.headers), body, routed))
        self.receives.append(request.receive)
        if self.script and (answer := await self.script(body)):
            return answer
        if routed:
            routed.digest = routed.choice.digest
            said = Said(routed.choice.label, "text", [1, 2], seconds=0.1, assigned=routed.choice.assigned)
            self.service.recorder.scored(Scored(said, 0.0, False))
        return JSONResponse({"model": body["model"]})

    def client(self, key: str | None = ADMIN, *, strict: bool = True) -> httpx.AsyncClient:
        """``strict``: what the application raises is raised here, too."""
        transport = httpx.ASGITransport(self, raise_app_exceptions=strict)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(transport=transport, base_url="http://replica", headers=headers)

    def add(self, *found: masks.Mask) -> None:
        """Register masks, past HTTP."""
        for mask in found:
            self.service.registry.register(masks.dumps(mask))
        self.service.reload()

    def with_detox(self, versions: int = 2) -> Replica:
        """With ``detox@1``, ``detox@2``, … registered."""
        self.add(*(made("detox", number) for number in range(1, versions + 1)))
        return self

    @contextlib.contextmanager
    def out_of_reach(self) -> Iterator[None]:
        """The disk of its SQLite is away."""
        folder = Path(self.database.engine.url.database or "").parent
        self.database.close()  # so that it has to be opened anew
        folder.rename(folder.with_name("away"))
        try:
            yield
        finally:
            self.database.close()
            folder.with_name("away").rename(folder)

    def close(self) -> None:
        self.database.close()


class Replicas:
    """Opens replicas on one database and one store, and closes them."""

    def __init__(self, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._url = folder, url
        self.opened: list[Replica] = []
        monkeypatch.setattr(bootstrap, "current", CURRENT.get)

    def __call__(self, clock: Clock | None = None, **settings: Any) -> Replica:
        self.opened.append(Replica(self._folder, self._url, clock, **settings))
        return self.opened[-1]

    def close(self) -> None:
        for replica in self.opened:
            replica.close()


@functools.cache
def _model():
    return masks.describe(MODEL), masks.parameters(MODEL)


@functools.cache
def made(name: str, *neurons: int) -> masks.Mask:
    """A small mask of the demo's model; the same bytes each time, although a mask holds the second it was made in."""
    return masks.for_model(MODEL, name, neurons={0: list(neurons)})


def arms(*weights: float) -> list[dict[str, Any]]:
    """Variants for ``POST /experiments``: the uncorrected model, and ``detox@1``, ``detox@2``, …"""
    variants = [{"name": "control", "mask": "base", "weight": weights[0]}]
    for number, weight in enumerate(weights[1:], 1):
        variants.append({"name": f"v{number}", "mask": f"detox@{number}", "weight": weight})
    return variants


def code(answer: httpx.Response) -> tuple[int, str]:
    """Of an error in OpenAI's shape: status and code."""
    return answer.status_code, answer.json()["error"]["code"]


async def begun(http: httpx.AsyncClient, name: str = "ab", **more: Any) -> dict[str, Any]:
    """Make an experiment, base against ``detox@1`` unless ``more`` says otherwise, and lead the route to it."""
    body = {"name": name, "variants": arms(1, 1), **more}
    answer = await http.post("/experiments", json=body)
    assert answer.status_code == 201, answer.text
    assert (await http.put("/route", json={"target": f"experiment:{name}"})).status_code == 200
    return answer.json()


def counted(replica: Replica, experiment: str = "ab") -> dict[str, list[tuple[int, int]]]:
    """Variant → (responses, errors), of all and of units, once all is written."""
    replica.service.ledger.flush()
    counts: dict[str, list[tuple[int, int]]] = {}
    for tally in queries.tallies(replica.database, experiment):
        counts[tally.variant] = [(totals.responses, totals.errors) for totals in (tally.all, tally.units)]
    return counts
