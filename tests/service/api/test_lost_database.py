"""A replica without its database: it goes on with what it knows, says so, and catches up."""

from __future__ import annotations

import asyncio

import masks
from service import metrics
from tests.service.replica import Clock, Replicas, arms, begun, code, counted, made

CHAT = "/v1/chat/completions"
ASK = {"model": "demo", "user": "ann"}


ADMIN_CALLS = [
    ("PUT", "/route", {"target": "base"}),
    ("POST", "/route/rollback", None),
    ("PUT", "/masks/detox/aliases/live", {"version": 1}),
    ("POST", "/masks/detox/aliases/live/rollback", None),
    ("DELETE", "/masks/detox/aliases/live", None),
    ("DELETE", "/masks/detox/2", None),
    ("POST", "/experiments", {"name": "other", "variants": arms(1, 1)}),
    ("PATCH", "/experiments/ab", {"revision": 1, "status": "paused"}),
    ("POST", "/experiments/ab/stop", {}),
    ("DELETE", "/experiments/ab", None),
    ("GET", "/audit", None),
    ("GET", "/experiments/ab/report", None),
    ("GET", "/masks", None),
]


def test_without_its_database_a_replica_serves_what_it_knows_and_says_so(replicas):
    clock = Clock()
    replica = replicas(clock).with_detox()
    background_tasks = replica.service.background_tasks

    async def works() -> None:
        for work in (replica.service.follow, background_tasks.write, background_tasks.controller.check_experiments):
            await background_tasks.once(work)

    async def run() -> None:
        async with replica.client() as http:
            await begun(http)
            assert (await http.get("/ready")).json() == {"status": "ready", "database": "ok"}
            first = (await http.post(CHAT, json=ASK)).headers["x-excise-variant"]
            with replica.out_of_reach():
                for method, path, body in ADMIN_CALLS:
                    assert code(await http.request(method, path, json=body)) == (503, "database_moved"), path
                answer = await http.post("/masks", content=masks.dumps(made("detox", 9)))
                assert code(answer) == (503, "database_moved")
                await works()
                ready = await http.get("/ready")
                assert (ready.status_code, ready.json()["status"]) == (200, "ready")
                assert ready.json()["database"] == "moved"
                assert metrics.DATABASE_UP._value.get() == 0
                assert (await http.post(CHAT, json=ASK)).headers["x-excise-variant"] == first
                assert (await http.post(CHAT, json={**ASK, "user": "bob"})).status_code == 200
                for path in ("/route", "/experiments", "/experiments/ab", "/v1/models", "/masks/detox/aliases"):
                    assert (await http.get(path)).status_code == 200, path
            await works()
            assert (await http.get("/ready")).json()["database"] == "ok"
            assert metrics.DATABASE_UP._value.get() == 1
            assert (await http.put("/route", json={"target": "detox@1"})).status_code == 200
        counts = counted(replica)
        assert sum(all_[0] for all_, _ in counts.values()) == 3
        assert sum(units[0] for _, units in counts.values()) == 2

    asyncio.run(run())


def test_without_its_postgresql_a_replica_goes_on_and_catches_up_with_the_other(tmp_path, postgres, monkeypatch):
    url = postgres.url()
    opened = Replicas(tmp_path, url, monkeypatch)
    one, other = opened().with_detox(), opened()

    async def run() -> None:
        async with one.client() as http:
            await begun(http)
            await other.service.follow()
            postgres.kill()
            try:
                for replica in (one, other):
                    async with replica.client() as there:
                        await replica.service.background_tasks.once(replica.service.follow)
                        assert "lost" in (await there.get("/ready")).json()["database"]
                        assert code(await there.put("/route", json={"target": "base"})) == (503, "database_lost")
                        assert (await there.post(CHAT, json=ASK)).status_code == 200
                    await replica.service.background_tasks.once(replica.service.background_tasks.write)
                    assert replica.service.ledger.waiting == 1
            finally:
                postgres.start()
            assert (await http.put("/route", json={"target": "detox@2"})).status_code == 200
            for replica in (one, other):
                for work in (replica.service.follow, replica.service.background_tasks.write):
                    await replica.service.background_tasks.once(work)
                assert replica.service.background_tasks.lost is None
                assert replica.service.policy.route == "detox@2"
        counts = counted(one)
        assert [all_[0] for all_, _ in counts.values()] == [2]
        assert [units[0] for _, units in counts.values()] == [1]

    asyncio.run(run())
    opened.close()
    postgres.drop(url)
