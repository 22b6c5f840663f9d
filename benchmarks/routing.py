"""What routing costs with 10,000 masks and 50 experiments; prints one JSON line a case.

    python -m benchmarks.routing [--case choose gateway pages change reload …] [--store FOLDER] [--out FILE]

A Service on SQLite, without an engine: what stands for it says that every mask is resident. The masks are real files
of the demo's model, half of them alone under their name, half of them versions of one name. `--store` keeps them (they
take minutes to register) for another run. Applications are called in this process, as an ASGI server does, so no
figure holds the network or the parsing of HTTP. Times are in microseconds: the clock's, and the processor time of this
process, which says more where the machine is not quiet.

- `choose`: `Service.choose` and `copied`: a user in an experiment, a mask's version, the newest of 5,000, none such.
- `gateway`: a chat request of 1 KB through the gateway and without it, in turn, to an application that parses the body
  and answers at once. `added` is the difference of their medians and of their 99th percentiles.
- `pages`: a hundred masks of `GET /masks` from a random place on, through the gateway and the routes; one mask, one
  model, all models; and the text of `/metrics`, which the event loop makes.
- `change`: from `PUT /route` to the policy in force here and in a second replica, which looks every 0.5 s;
  milliseconds.
- `reload`: reading what operators set: at start (the whole replica is made), after a change of the route, after a new
  mask; and for how long the event loop stands still meanwhile, for it is read in a thread. Milliseconds.
"""

import argparse
import asyncio
import json
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import uvloop
from fastapi import FastAPI
from prometheus_client import generate_latest
from rich.console import Console
from rich.progress import track
from starlette.types import ASGIApp, Receive, Scope, Send

import masks
from benchmarks.random_llama import random_mask
from benchmarks.replica import MODEL, NAME, Watch, call, replica, stalls, worst
from service import bootstrap
from service.api import middleware, plugin
from service.errors import NotFoundError
from service.experiments.experiment import Experiment, Variant, begin
from service.routing.policy import ROUTED, Unit, copied

VERSIONS = "versions"
"""The name that half of the masks are versions of."""
ROUTE = "experiment:split-25"
LIMITS = {"added_p50": 200, "added_p99": 1000, "page_p99": 20_000}
"""Microseconds that were promised."""


def furnish(folder: Path, count: int, experiments: int) -> None:
    """Register the masks and begin the experiments that are not there yet."""
    service = replica(folder)
    for number in track(range(service.registry.list(limit=1)[1], count), "masks", console=Console(stderr=True)):
        name = VERSIONS if number % 2 else f"mask-{number:05}"
        service.registry.register(masks.dumps(random_mask(MODEL, name, number)))
    service.reload()
    for number in range(len(service.policy.experiments), experiments):
        pinned = [f"{VERSIONS}@{1 + (7 * number + arm) % (count // 2)}" for arm in range(3)]
        variants = [Variant(f"treated-{arm}", mask, 0.05) for arm, mask in enumerate(pinned[:2])]
        variants += [Variant("control", "base", 0.9), Variant("copy", pinned[2], mirror=0.1)]
        service.state.create(begin(Experiment(f"split-{number}", tuple(variants), "control"), time.time()))
    service.state.set_route(ROUTE)
    service.database.close()


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that parses the body and answers at once, with the mask that was chosen."""
    json.loads((await receive())["body"])
    if routed := ROUTED.get():
        routed.digest = routed.choice.digest
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b"{}", "more_body": False})


async def choosing(folder: Path, rounds: int) -> dict[str, Any]:
    """`Service.choose` and `copied`."""
    service = replica(folder)
    forms = {"experiment": None, "version": f"{NAME}:mask-00042@1", "newest": f"{NAME}:{VERSIONS}"}
    forms |= {"missing": f"{NAME}:missing"}
    figures: dict[str, Any] = {}
    for form, model in forms.items():
        watch = Watch()
        for number in range(rounds if form != "missing" else rounds // 20):
            unit = Unit(f"{number:032x}", f"user-{number}")
            with watch.time(), suppress(NotFoundError):
                copied(service.policy, service.choose(model, unit), unit)
        figures[form] = watch.figures()
    return {"microseconds": figures}


async def gateway(folder: Path, rounds: int) -> dict[str, Any]:
    """The gateway in front of an application, and the application alone."""
    bootstrap._current = replica(folder)
    inner, outer = Watch(), Watch()
    front = middleware.Gateway(answering)
    said = {"role": "user", "content": "A word to you. " * 60}
    for number in range(rounds + 200):
        body = json.dumps({"model": NAME, "messages": [said], "max_tokens": 16, "user": f"user-{number}"}).encode()
        sides: list[tuple[Watch, ASGIApp]] = [(inner, answering), (outer, front)]
        for watch, app in sides[:: 1 if number % 2 else -1]:
            with watch.time() if number >= 200 else Watch().time():
                status, _ = await call(app, "POST", "/v1/chat/completions", body)
            if status != 200:
                raise RuntimeError(f"the gateway answered {status}")
            await asyncio.sleep(0)  # a mirrored copy has its turn
    alone, routed = inner.figures(), outer.figures()
    added = {name: float(f"{routed[name] - alone[name]:.4g}") for name in alone if name != "max"}
    kept = {"p50": added["p50"] <= LIMITS["added_p50"], "p99": added["p99"] <= LIMITS["added_p99"]}
    return {"microseconds": {"alone": alone, "gateway": routed, "added": added}, "kept": kept, "body": len(body)}


async def pages(folder: Path, rounds: int) -> dict[str, Any]:
    """What lists masks."""
    service = bootstrap._current = replica(folder)
    app = FastAPI()
    plugin.attach(app)
    front = middleware.Gateway(app)
    total = service.registry.list(limit=1)[1]
    draw = random.Random(0)  # noqa: S311
    asked: dict[str, Callable[[], tuple[str, str]]] = {
        "masks_page": lambda: ("/masks", f"limit=100&offset={draw.randrange(total)}"),
        "versions_page": lambda: (f"/masks/{VERSIONS}", f"limit=100&offset={draw.randrange(total // 2)}"),
        "one_mask": lambda: (f"/masks/{VERSIONS}/{draw.randrange(1, total // 2)}", ""),
        "one_model": lambda: (f"/v1/models/{NAME}:{VERSIONS}@{draw.randrange(1, total // 2)}", ""),
        "all_models": lambda: ("/v1/models", ""),
    }
    figures: dict[str, Any] = {}
    for name, ask in asked.items():
        watch = Watch()
        for number in range(rounds // (100 if "model" in name else 10)):
            path, query = ask()
            with watch.time() if number else Watch().time():
                status, _ = await call(front, "GET", path, query=query)
            if status != 200:
                raise RuntimeError(f"{path} answered {status}")
        figures[name] = watch.figures()
    watch = Watch()
    for _ in range(10):
        with watch.time():
            size = len(generate_latest())
    kept = {"page_p99": figures["masks_page"]["p99"] <= LIMITS["page_p99"]}
    return {"microseconds": figures | {"metrics": watch.figures()}, "metrics_bytes": size, "kept": kept}


async def change(folder: Path, rounds: int) -> dict[str, Any]:
    """From a change to the request under it, here and at another replica."""
    here, other = replica(folder), replica(folder)
    bootstrap._current = here
    app = FastAPI()
    plugin.attach(app)
    front = middleware.Gateway(app)
    other.background_tasks.start()
    puts, there = Watch(), []
    for number in range(rounds // 100):
        target = (f"mask-{2 * number:05}@1", ROUTE)[number % 2]
        await asyncio.sleep(random.Random(number).random() / 2)  # noqa: S311
        began = time.perf_counter()
        with puts.time():
            status, said = await call(front, "PUT", "/route", json.dumps({"target": target}).encode())
        if status != 200 or here.policy.route != target:
            raise RuntimeError(f"PUT /route answered {status}, the route is {here.policy.route}: {said.decode()}")
        while other.policy.route != target:
            await asyncio.sleep(0.002)
        there.append(1000 * (time.perf_counter() - began))
    await other.background_tasks.close()
    p50, longest = float(np.median(there)), max(there)
    return {"milliseconds": {"put_and_here": puts.figures(1e6), "there": {"p50": round(p50), "max": round(longest)}}}


async def reload(folder: Path, rounds: int) -> dict[str, Any]:
    """Reading what operators set, and the event loop meanwhile."""
    watches = {name: Watch() for name in ("at_start", "route_changed", "mask_added")}
    late: dict[str, list[float]] = {name: [] for name in ("nothing", "route_changed", "mask_added")}
    other = replica(folder)
    with watches["at_start"].time():
        service = replica(folder)
    async with stalls(late["nothing"]):
        await asyncio.sleep(3)
    for number in range(rounds // 100):
        other.state.set_route((f"mask-{2 * number:05}@1", ROUTE)[number % 2])
        async with stalls(late["route_changed"]):
            with watches["route_changed"].time():
                await asyncio.to_thread(service.reload)
    for number in range(rounds // 100):
        mask = random_mask(MODEL, "added", 10**6 + number)
        added, _ = other.registry.register(masks.dumps(mask))
        async with stalls(late["mask_added"]):
            with watches["mask_added"].time():
                await asyncio.to_thread(service.reload)
        other.registry.delete(added.name, added.version, check=lambda *_: None)
    stood = {name: worst(each) for name, each in late.items()}
    return {"milliseconds": {"loop_stood": stood} | {name: watch.figures(1e6) for name, watch in watches.items()}}


CASES = {"choose": choosing, "gateway": gateway, "pages": pages, "change": change, "reload": reload}


def main() -> None:
    """Run the cases and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    parser.add_argument("--masks", type=int, default=10_000)
    parser.add_argument("--experiments", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5000, help="requests of a case; the slow ones make fewer")
    parser.add_argument("--store", type=Path, help="folder that keeps the masks, default: a temporary one")
    parser.add_argument("--out", type=Path, help="file that the lines are added to as well")
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = options.store or Path(name)
        furnish(folder, options.masks, options.experiments)
        about = {"masks": options.masks, "experiments": options.experiments, "cores": os.cpu_count()}
        for case in options.case:
            figures = uvloop.run(CASES[case](folder, options.rounds))
            line = json.dumps({"benchmark": "routing", "case": case, **figures, **about})
            print(line, flush=True)  # noqa: T201
            if options.out:
                with options.out.open("a") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    main()
