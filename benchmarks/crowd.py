"""Clients and an operator who do whatever can be done, again and again: the load of the soak."""

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

import masks
from benchmarks.random_llama import random_mask
from benchmarks.servers import ADMIN, NAME

_KEY = {"Authorization": f"Bearer {ADMIN}"}
_JSON = {"Content-Type": "application/json"}
_USERS = 500
_LIVE = 6
"""Masks that the operator leaves registered."""
_KINDS = {"whole": 45, "stream": 15, "leave": 12, "vanish": 6, "choices": 5, "alias": 12}
_KINDS |= {"no_mask": 3, "no_path": 1, "no_json": 1}
"""Kind of request → how many of a hundred. Those that leave have seen the first bytes of a stream; those that vanish,
mostly nothing yet."""
_EXPECTED = {"no_mask": 404, "no_path": 404, "no_json": 400}


class Clients:
    """A closed loop of clients, which draw what they do."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self.done = 0
        self.wrong: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()

    async def run(self, jobs: Iterator[int], clients: int) -> None:
        """Until the jobs are done."""

        async def one() -> None:
            for job in jobs:
                await self._ask(random.Random(job))  # noqa: S311
                self.done += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(one())

    async def _ask(self, draw: random.Random) -> None:
        (kind,) = draw.choices(tuple(_KINDS), tuple(_KINDS.values()))
        self.kinds[kind] += 1
        body = _body(kind, draw)
        path = f"/v1/{draw.randrange(10**9)}" if kind == "no_path" else "/v1/chat/completions"
        data = b"{" if kind == "no_json" else json.dumps(body).encode()
        try:
            async with asyncio.timeout(draw.uniform(0, 0.3) if kind == "vanish" else 300):
                async with self._http.post(self._url + path, data=data, headers=_JSON) as answer:
                    if kind == "leave":
                        await answer.content.readany()
                        answer.close()
                        return
                    text = await answer.text()
        except (TimeoutError, aiohttp.ClientError) as error:
            if kind != "vanish":
                self.wrong[f"{kind}: {error!r}"] += 1
            return
        if answer.status != _EXPECTED.get(kind, 200) or (kind == "stream" and "[DONE]" not in text):
            self.wrong[f"{kind}: {answer.status} {text[:200]}"] += 1


def _body(kind: str, draw: random.Random) -> dict[str, Any]:
    """A chat request of this kind."""
    user, tokens = f"user-{draw.randrange(_USERS)}", draw.randint(1, 4)
    question = f"Tell me {draw.choice(('a story', 'a joke', 'the news', 'a word'))}, number {draw.randrange(10**6)}."
    body: dict[str, Any] = {
        "model": NAME,
        "user": user,
        "max_tokens": tokens,
        "messages": [{"role": "user", "content": question}],
    }
    if kind in ("stream", "leave"):
        body["stream"] = True
    if kind in ("leave", "vanish"):
        body |= {"max_tokens": 64, "ignore_eos": True}
    if kind == "choices":
        body["n"] = 3
    if kind == "alias":
        body["model"] = f"{NAME}:soak@candidate"
    if kind == "no_mask":
        body["model"] = f"{NAME}:mask-{draw.randrange(10**9)}"
    return body


class Operator:
    """Somebody who keeps changing things."""

    def __init__(self, http: aiohttp.ClientSession, url: str, model: Path) -> None:
        self._http = http
        self._url = url
        self._model = model
        self._live: list[int] = []
        self._made = 0
        self.calls = 0
        self.wrong: Counter[str] = Counter()

    async def begin(self) -> None:
        """Masks, an alias, the experiment, and the route to it."""
        for name in ("steady", "shadow"):
            await self._call("POST", "/masks", masks.dumps(random_mask(self._model, name, 1)))
        await self.register()
        variants = [
            {"name": "control", "mask": "base", "weight": 1},
            {"name": "treated", "mask": "steady@1", "weight": 1},
            {"name": "copy", "mask": "shadow@1", "mirror": 0.1},
        ]
        guardrails = [{"metric": "toxicity", "margin": 0.9}, {"metric": "latency_p95", "margin": 900}]
        await self._call("POST", "/experiments", {"name": "soak", "variants": variants, "guardrails": guardrails})
        await self._call("PUT", "/route", {"target": "experiment:soak"})

    async def work(self, pause: float) -> None:
        """One thing after the other, until cancelled."""
        everything = (self.register, self.weigh, self.read, self.reroute, self.pause, self.roll_back)
        for act in itertools.cycle(everything):
            await act()
            await asyncio.sleep(pause)

    async def register(self) -> None:
        """A new mask: ask for it, point the alias at it, delete what is too many."""
        self._made += 1
        mask = random_mask(self._model, "soak", 1000 + self._made)
        version = (await self._call("POST", "/masks", masks.dumps(mask)))["version"]
        self._live.append(version)
        asked = {"model": f"{NAME}:soak@{version}", "prompt": "One", "max_tokens": 2}
        await self._call("POST", "/v1/completions", asked)
        await self._call("PUT", "/masks/soak/aliases/candidate", {"version": version})
        await self.tidy(_LIVE)

    async def tidy(self, most: int) -> None:
        """Delete the oldest masks; the alias names the newest."""
        while len(self._live) > most:
            await self._call("DELETE", f"/masks/soak/{self._live.pop(0)}")

    async def weigh(self) -> None:
        """Other weights: a new epoch."""
        revision = (await self._call("GET", "/experiments/soak"))["revision"]
        weights = {"control": 1 + self.calls % 3, "treated": 1 + self.calls % 2}
        await self._call("PATCH", "/experiments/soak", {"revision": revision, "weights": weights})

    async def read(self) -> None:
        """Reports and lists."""
        for path in ("json", "html", "png"):
            await self._call("GET", f"/experiments/soak/report?format={path}")
        for path in ("/masks", "/v1/models", "/audit", "/experiments", "/metrics", "/ready", "/masks/soak/1"):
            await self._call("GET", path, expected=(200, 404))

    async def reroute(self) -> None:
        """Everybody to a mask, and back."""
        await self._call("PUT", "/route", {"target": "steady@1"})
        await asyncio.sleep(0.2)
        await self._call("POST", "/route/rollback")

    async def pause(self) -> None:
        """Pause the experiment and go on."""
        for status in ("paused", "running"):
            revision = (await self._call("GET", "/experiments/soak"))["revision"]
            await self._call("PATCH", "/experiments/soak", {"revision": revision, "status": status})
            await asyncio.sleep(0.2)

    async def roll_back(self) -> None:
        """Roll the alias back, and forth."""
        if len(self._live) > 1:
            await self._call("POST", "/masks/soak/aliases/candidate/rollback", expected=(200, 409))
        await self._call("PUT", "/masks/soak/aliases/candidate", {"version": self._live[-1]})

    async def _call(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        expected: tuple[int, ...] = (200, 201, 204),
    ) -> Any:
        self.calls += 1
        headers = _KEY if isinstance(body, bytes | None) else _KEY | _JSON
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        async with self._http.request(method, self._url + path, data=data, headers=headers) as answer:
            said = await answer.read()
            if answer.status not in expected:
                self.wrong[f"{method} {path}: {answer.status} {said[:300].decode(errors='replace')}"] += 1
            return json.loads(said) if answer.content_type == "application/json" and said else {}
