"""The audit: every change by an admin leaves one entry, with who made it, in the same transaction."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import datetime

import pytest

import masks
from service.experiments.experiment import paused
from service.keys import fingerprint
from service.scoring.flagged import Flag
from service.storage import audit
from service.storage.database import Database
from tests.service.replica import ADMIN, OTHER_ADMIN, READER, Clock, Replicas, arms, made

MASK = masks.dumps(made("detox", 1))
CHANGES = [
    ("POST", "/masks", {"content": MASK}, "register", "detox@1"),
    ("PUT", "/masks/detox/aliases/live", {"json": {"version": 1}}, "set alias", "alias detox live"),
    ("POST", "/masks", {"content": masks.dumps(made("detox", 2))}, "register", "detox@2"),
    ("PUT", "/masks/detox/aliases/live", {"json": {"version": 2}}, "set alias", "alias detox live"),
    ("POST", "/masks/detox/aliases/live/rollback", {}, "roll back", "alias detox live"),
    ("DELETE", "/masks/detox/aliases/live", {}, "remove alias", "alias detox live"),
    ("PUT", "/route", {"json": {"target": "detox@1"}}, "set route", "route"),
    ("PUT", "/route", {"json": {"target": "detox@1"}}, "set route", "route"),
    ("POST", "/route/rollback", {}, "roll back", "route"),
    ("POST", "/experiments", {"json": {"name": "ab", "variants": arms(1, 1)}}, "create experiment", "ab"),
    ("PATCH", "/experiments/ab", {"json": {"revision": 1, "status": "paused"}}, "change experiment", "ab"),
    ("POST", "/experiments/ab/stop", {"json": {}}, "stop experiment", "ab"),
    ("DELETE", "/experiments/ab", {}, "delete experiment", "ab"),
    ("DELETE", "/masks/detox/2", {}, "delete", "detox@2"),
    ("DELETE", "/flagged", {}, "delete flagged", "flagged"),
]
REFUSED = [
    ("POST", "/masks", {"content": b"no mask"}, 400),
    ("POST", "/masks", {"content": MASK}, 200),  # the same bytes again: nothing changes
    ("PUT", "/masks/detox/aliases/live", {"json": {"version": 9}}, 404),
    ("PUT", "/route", {"json": {"target": "nope"}}, 404),
    ("POST", "/route/rollback", {}, 409),
    ("PATCH", "/experiments/nope", {"json": {"revision": 1, "status": "paused"}}, 404),
    ("POST", "/experiments/nope/stop", {}, 404),
    ("DELETE", "/experiments/nope", {}, 404),
    ("DELETE", "/masks/detox/9", {}, 404),
    ("DELETE", "/masks/detox/aliases/nope", {}, 404),
]


@pytest.fixture
def replicas(tmp_path, database_url, monkeypatch):
    factory = Replicas(tmp_path, database_url, monkeypatch)
    yield factory
    factory.close()


def test_every_change_leaves_one_entry_with_who_made_it(replicas):
    replica = replicas()

    async def run() -> None:
        async with replica.client() as one, replica.client(OTHER_ADMIN) as other:
            for number, (method, path, body, action, subject) in enumerate(CHANGES, 1):
                http, key = [(one, ADMIN), (other, OTHER_ADMIN)][number % 2]
                answer = await http.request(method, path, **body)
                assert answer.status_code < 300, (method, path, answer.text)
                entries = (await one.get("/audit")).json()["data"]
                assert len(entries) == number
                newest = entries[0]
                assert (newest["action"], newest["subject"]) == (action, subject)
                assert newest["who"] == f"key {fingerprint(key)}"
                assert key not in str(entries)

    asyncio.run(run())


def test_what_is_refused_or_changes_nothing_leaves_none(replicas):
    replica = replicas()
    replica.add(made("detox", 1))

    async def run() -> None:
        async with replica.client() as http, replica.client(READER) as reader:
            before = (await http.get("/audit")).json()
            for method, path, body, status in REFUSED:
                answer = await http.request(method, path, **body)
                assert answer.status_code == status, (method, path, answer.text)
                assert (await reader.request(method, path, **body)).status_code == 403
            assert (await http.get("/audit")).json() == before

    asyncio.run(run())


def test_stopping_an_experiment_says_of_the_route_what_became_of_it(replicas):
    replica = replicas()
    replica.add(made("detox", 1))

    async def run() -> None:
        async with replica.client() as http:
            await http.post("/experiments", json={"name": "ab", "variants": arms(1, 1)})
            await http.put("/route", json={"target": "experiment:ab"})
            await http.post("/experiments/ab/stop", json={"winner": "v1"})
            route, stop, *_ = (await http.get("/audit")).json()["data"]
            assert (route["action"], route["before"], route["after"]) == ("set route", "experiment:ab", "detox@1")
            assert route["reason"] == "stop experiment: ab"
            assert stop["reason"] == "by an operator, winner v1"
            assert (stop["before"]["status"], stop["after"]["status"]) == ("running", "stopped")

    asyncio.run(run())


def test_what_the_server_does_by_itself_is_the_servers_also_after_an_operators_call(replicas):
    replica = replicas()
    replica.add(made("detox", 1))

    async def run() -> None:
        async with replica.client() as http:
            await http.post("/experiments", json={"name": "ab", "variants": arms(1, 1)})
        await replica.service.administer(replica.service.state.change, "ab", paused, action="by itself")

    asyncio.run(run())
    assert audit.entries(replica.database)[0]["who"] == "server"


def test_a_change_that_fails_leaves_no_entry(database_url):
    database = Database(database_url)
    with pytest.raises(RuntimeError), database.change() as connection:
        audit.write(connection, "action", "subject")
        raise RuntimeError("on the way")
    assert audit.entries(database) == []
    database.close()


def test_entries_come_newest_first_a_page_at_a_time(replicas):
    replica = replicas()
    with replica.database.change() as connection:
        for number in range(25):
            audit.write(connection, f"a{number}", "s", before={"n": number}, after=None, reason="why")

    async def run() -> None:
        actions, before = [], {}
        async with replica.client() as http:
            while page := (await http.get("/audit", params={"limit": 10, **before})).json()["data"]:
                actions += [entry["action"] for entry in page]
                before = {"before": page[-1]["id"]}
            last = page or (await http.get("/audit")).json()["data"][-1]
        assert actions == [f"a{number}" for number in reversed(range(25))]
        assert (last["before"], last["after"], last["reason"]) == ({"n": 0}, None, "why")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("before=2147483648", 200),
        ("before=9007199254740992", 200),
        ("before=0", 400),
        ("limit=0", 400),
        ("limit=x", 400),
    ],
)
def test_a_page_that_cannot_be_is_an_error_of_the_client(replicas, query, status):
    replica = replicas()

    async def run() -> None:
        async with replica.client() as http:
            assert (await http.get(f"/audit?{query}")).status_code == status

    asyncio.run(run())


def test_times_are_iso_8601_in_utc(replicas):
    clock = Clock()
    replica = replicas(clock, keep_flagged=5)

    async def run() -> None:
        async with replica.client() as http:
            began = time.time()
            await http.put("/route", json={"target": "base"})
            at = (await http.get("/audit")).json()["data"][0]["at"]
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", at)
            assert began - 0.001 <= datetime.fromisoformat(at).timestamp() <= time.time()
            replica.service.flagged.write([Flag(clock.now + 0.25, "base", None, None, 0.9, "fool")])
            (kept,) = (await http.get("/flagged")).json()["data"]
            assert kept["at"] == "2027-01-15T08:00:00.250Z"
            answer = await http.delete("/flagged")
            assert (answer.status_code, answer.json()) == (200, {"object": "deleted", "deleted": 1})
            assert (await http.get("/flagged")).json()["data"] == []

    asyncio.run(run())
