"""No call of an operator holds the event loop up: every stream would stand still for as long."""

import asyncio
import json
import subprocess
import sys
import threading
import time

import pytest
from sqlalchemy import insert
from starlette.routing import Mount

import masks
from service import metrics
from service.api import pagination
from service.storage.registry import describe
from service.storage.tables import masks as table
from tests.service.replica import READER, Replica, arms, code, made
from tests.service.server import ROOT

MASKS = 10_000
LISTS = ["/masks", "/masks/many", "/masks/many/aliases", "/v1/models", "/experiments", "/audit", "/flagged"]
TEXTS = [("GET", "/metrics"), ("GET", "/metrics/"), ("HEAD", "/metrics")]


def crowded(replica: Replica) -> Replica:
    """With the records of 10,000 masks, half of them versions of one name; their files are not there."""
    about = describe(made("detox", 1))
    rows = []
    for number in range(MASKS):
        name, version = ("many", number // 2 + 1) if number % 2 else (f"mask-{number:05}", 1)
        row = {"digest": f"{number:064x}", "name": name, "version": version, "size": 1, "description": about}
        rows.append({**row, "registered_at": "2026-11-27T00:00:00Z"})
    with replica.database.change(masks=True) as connection:
        connection.execute(insert(table), rows)
    for number in range(100):
        replica.service.state.set_alias("many", f"alias-{number:02}", number + 1)
    replica.service.reload()
    return replica


def test_no_call_takes_50_ms_of_the_event_loops_own_time_with_10_000_masks(replicas):
    """By the processor's clock of the loop's thread, which says the same on a busy machine."""
    replica = crowded(replicas(max_masks=2 * MASKS))
    asked = [("GET", f"{path}?limit=1000" if path != "/v1/models" else path, None) for path in LISTS]
    asked += [(method, path, None) for method, path in TEXTS]
    asked += [("POST", "/masks", masks.dumps(made("new", 3))), ("DELETE", "/masks/new/1", None)]
    asked += [("PUT", "/route", b'{"target": "many@7"}'), ("POST", "/route/rollback", None)]
    asked += [("PUT", "/masks/many/aliases/live", b'{"version": 9}'), ("GET", "/v1/models/demo:many", None)]
    spent = {}

    async def run() -> None:
        async with replica.client() as http:
            for method, path, body in asked:
                kind = {"content-type": "application/json" if path != "/masks" else "application/octet-stream"}
                began = time.thread_time()
                answer = await http.request(method, path, content=body, headers=kind)
                spent[f"{method} {path}"] = time.thread_time() - began
                assert answer.status_code < 300, (method, path, answer.text[:500])

    asyncio.run(run())
    assert {call: seconds for call, seconds in spent.items() if seconds > 0.05} == {}


@pytest.mark.parametrize("path", LISTS)
def test_lists_are_made_in_a_thread(replicas, monkeypatch, path):
    replica, threads = replicas(), []
    replica.add(made("many", 1))
    written = pagination._encoded

    def seen(entry):
        threads.append(threading.current_thread())
        return written(entry)

    monkeypatch.setattr(pagination, "_encoded", seen)
    monkeypatch.setattr(replica.service.flagged, "latest", lambda limit: [])

    async def run() -> None:
        async with replica.client() as http:
            await http.post("/experiments", json={"name": "ab", "variants": [*arms(1), {**arms(1)[0], "name": "b"}]})
            await http.put("/masks/many/aliases/live", json={"version": 1})
            answer = await http.get(path)
            assert answer.json()["object"] == "list"
            assert answer.headers["content-type"] == "application/json"
            assert len(answer.json()["data"]) == len(threads)

    asyncio.run(run())
    assert threads or path == "/flagged"
    assert threading.main_thread() not in threads


@pytest.mark.parametrize(("method", "path"), TEXTS)
def test_the_text_of_the_metrics_is_made_in_a_thread_at_every_address(replicas, monkeypatch, method, path):
    replica, threads = replicas(), []
    made_here = metrics.exposition

    def seen():
        threads.append(threading.current_thread())
        return made_here()

    monkeypatch.setattr(metrics, "exposition", seen)

    async def run() -> None:
        async with replica.client(None) as http:
            answer = await http.request(method, path)
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/plain; version=")
            assert ("excise_database_up" in answer.text) == (method == "GET")

    asyncio.run(run())
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


def test_vllms_mount_of_the_metrics_which_runs_on_the_event_loop_is_taken_away(replicas):
    from fastapi import FastAPI

    from service.api.plugin import attach

    app = FastAPI()
    app.mount("/metrics", FastAPI())
    app.mount("/other", FastAPI())
    attach(app)
    assert [route.path for route in app.routes if isinstance(route, Mount)] == ["/other"]


def test_the_api_is_described_before_the_server_takes_requests(replicas):
    replica = replicas()
    app = replica._app
    messages = []

    async def run() -> None:
        async def receive():
            return {"type": "lifespan.startup" if not messages else "lifespan.shutdown"}

        async def send(message):
            messages.append((message["type"], app.openapi_schema is not None))

        await replica({"type": "lifespan", "state": {}}, receive, send)

    asyncio.run(run())
    assert messages[0] == ("lifespan.startup.complete", True)
    assert "/masks" in app.openapi_schema["paths"]


def test_lists_have_pages(replicas):
    replica = replicas().with_detox(3)

    async def run() -> None:
        async with replica.client() as http:
            for number in range(3):
                await http.put(f"/masks/detox/aliases/a{number}", json={"version": number + 1})
                body = {"name": f"e{number}", "variants": arms(1, 1)}
                assert (await http.post("/experiments", json=body)).status_code == 201
            for path, key in (("/masks/detox/aliases", "alias"), ("/experiments", "name"), ("/masks", "version")):
                whole = (await http.get(path)).json()
                page = (await http.get(path, params={"offset": 1, "limit": 1})).json()
                assert (whole["total"], len(whole["data"])) == (3, 3)
                assert (page["total"], page["data"]) == (3, whole["data"][1:2])
                assert (await http.get(path, params={"offset": 3})).json()["data"] == []
                assert (await http.get(path, params={"limit": 1001})).status_code in (400, 422)
                assert len({one[key] for one in whole["data"]}) == 3

    asyncio.run(run())


def test_an_entry_is_written_as_json_whatever_it_holds():
    entries = [{"a": "ü\u2028\"'", "b": [1, 2.5, None, True]}, {}]
    said = pagination.listed(entries, total=7)
    assert json.loads(said.body) == {"object": "list", "data": entries, "total": 7}
    assert json.loads(pagination.listed([]).body) == {"object": "list", "data": []}


def test_json_that_is_parsed_on_the_event_loop_is_short(replicas):
    replica = replicas()

    async def run() -> None:
        async with replica.client() as http, replica.client(READER) as reader:
            body = {"target": "base", "x": "x" * 2**18}
            assert code(await http.put("/route", json=body)) == (413, "body_too_large")
            ask = {"model": "demo", "messages": [{"role": "user", "content": "x" * 2**18}]}
            assert (await reader.post("/v1/chat/completions", json=ask)).status_code == 200

    asyncio.run(run())


LOADED = """
import gc
from service.experiments.report import figure
before = gc.get_freeze_count()
figure._load()
print(gc.isenabled(), gc.get_freeze_count() - before > 20_000)
gc.disable()
figure._load.__wrapped__()
print(gc.isenabled())
"""


def test_what_draws_reports_is_left_out_of_garbage_collections():
    run = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == ["True", "True", "False"], run.stderr
