"""What the console and scripts see at a glance: the overview by key, traffic over time, labels of flagged responses."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from service.scoring.flagged import Flag
from service.scoring.response import Response, Scored
from tests.service.replica import ADMIN, READER, Clock, begun, code

MINUTE = 60.0


def said(mask: str, tokens: int = 4, **more) -> Response:
    return Response(mask, "text", list(range(tokens)), seconds=0.5, **more)


def test_a_reader_sees_model_route_and_experiments_and_what_the_key_is(both):
    replica = both().with_detox()

    async def run() -> None:
        async with replica.client() as http, replica.client(READER) as reader:
            await begun(http, ramp=[{"share": 0.05}, {"share": 0.5}])
            seen = (await reader.get("/overview")).json()
            assert (seen["key"], seen["changes"], seen["model"]) == ("reader", True, "demo")
            assert (seen["target"], seen["baked"], seen["keeps_flagged"]) == ("experiment:ab", None, 0)
            assert seen["before"] == "base"
            (summary,) = seen["experiments"]
            assert summary["variants"] == {"control": "base", "v1": "detox@1"}
            assert summary["share"] == pytest.approx({"control": 0.95, "v1": 0.05})
            assert (summary["status"], summary["step"], summary["steps"], summary["winner"]) == ("running", 0, 2, None)
            assert "salt" not in summary  # who knows it can tell who gets what
            assert (await http.get("/overview")).json()["key"] == "admin"
            await http.post("/experiments/ab/stop", json={"winner": "v1"})
            (summary,) = (await reader.get("/overview")).json()["experiments"]
            assert (summary["status"], summary["winner"], summary["share"]) == ("stopped", "v1", {})
            for before in ("base", None):  # past the experiment, which is over; then there is nothing before
                assert (await reader.get("/overview")).json()["before"] == before
                await http.post("/route/rollback")
            with replica.out_of_reach() if "sqlite" in str(replica.settings.database_url) else contextlib.nullcontext():
                assert (await reader.get("/overview")).json()["target"] == "base"

    asyncio.run(run())


def test_where_reading_is_open_a_wrong_key_is_told_from_none_that_counts(replicas):
    replica = replicas(api_keys=())

    async def run() -> None:
        for key, kind in ((ADMIN, "admin"), (None, "none"), ("a-wrong-key", "none")):
            async with replica.client(key) as http:
                assert (await http.get("/overview")).json()["key"] == kind
        async with replica.client("a-wrong-key") as http:
            assert (await http.get("/overview", headers={"Authorization": "", "x-api-key": ADMIN})).json()[
                "key"
            ] == "admin"

    asyncio.run(run())


def test_the_newest_experiment_comes_first(both):
    clock = Clock()
    replica = both(clock).with_detox()

    async def run() -> None:
        async with replica.client() as http:
            for name in ("b", "a", "c"):
                clock.now += MINUTE
                await begun(http, name)
            assert [each["name"] for each in (await http.get("/overview")).json()["experiments"]] == ["c", "a", "b"]

    asyncio.run(run())


def test_traffic_is_summed_by_mask_and_time_over_replicas_in_experiments_or_not(both):
    clock = Clock(1_800_000_000.0)
    one, other = both(clock), both(clock)
    for replica, toxic in ((one, True), (other, False)):
        recorder = replica.service.recorder
        recorder.scored(Scored(said("base"), 0.9 if toxic else 0.1, toxic, repetitive=not toxic))
        recorder.scored(Scored(said("detox@1", truncated=True), 0.1, False, refusal=True))
        recorder.scored(Scored(said("base")))  # never scored
        recorder.judged(said("detox@1"), -1.5 if toxic else -0.5)
        replica.service.intake.traffic.flush()
        replica.service.intake.traffic.flush()  # again: nothing counts twice
    clock.now += 5 * MINUTE
    one.service.recorder.scored(Scored(said("base"), 0.9, True))
    one.service.intake.traffic.flush()

    async def run() -> None:
        async with one.client(READER) as http:
            points = (await http.get("/traffic", params={"hours": 0.5})).json()["data"]
            assert [(each["mask"], each["responses"]) for each in points] == [("base", 4), ("detox@1", 2), ("base", 1)]
            first, second, third = points
            assert (first["scored"], first["toxic"], first["repetitive"], first["coherence"]) == (2, 1, 1, None)
            assert (second["judged"], second["coherence"], second["refusals"], second["truncated"]) == (2, -1.0, 2, 2)
            assert (first["start"], third["start"]) == ("2027-01-15T08:00:00.000Z", "2027-01-15T08:05:00.000Z")
            assert len((await http.get("/traffic", params={"hours": 0.05})).json()["data"]) == 1
            assert code(await http.get("/traffic", params={"hours": 0})) == (400, "invalid_value")

    asyncio.run(run())


def test_traffic_is_no_part_of_any_experiment(both):
    replica = both().with_detox()

    async def run() -> None:
        async with replica.client() as http:
            await begun(http)
            replica.service.recorder.scored(Scored(said("base"), 0.9, True))
            replica.service.intake.traffic.flush()
            replica.service.ledger.flush()
            report = (await http.get("/experiments/ab/report")).json()
            assert [each["responses"] for each in report["variants"]] == [0, 0]

    asyncio.run(run())


def test_a_mask_of_a_longest_name_is_counted_as_other(both):
    replica = both()
    replica.service.recorder.scored(Scored(said("m" * 64 + "@1"), 0.1, False))
    replica.service.intake.traffic.flush()
    assert [each.variant for each in replica.service.intake.traffic.read(1)] == ["other"]


def test_a_flagged_response_is_labelled_changed_and_taken_back_and_the_audit_tells(both):
    replica = both(keep_flagged=2)
    replica.service.flagged.write([Flag(replica.clock(), "base", None, None, 0.9, f"you fool {n}") for n in "12"])

    async def run() -> None:
        async with replica.client() as http, replica.client(READER) as reader:
            kept = (await http.get("/flagged")).json()["data"]
            assert [(each["text"], each["label"]) for each in kept] == [("you fool 2", None), ("you fool 1", None)]
            path = f"/flagged/{kept[0]['id']}"
            for label in ("unsure", "confirmed"):
                answer = await http.put(path, json={"label": label})
                assert answer.json() == {"object": "label", "id": kept[0]["id"], "label": label}
            assert [each["label"] for each in (await http.get("/flagged")).json()["data"]] == ["confirmed", None]
            newest = (await http.get("/audit")).json()["data"][0]
            assert (newest["action"], newest["before"], newest["after"]) == ("label flagged", "unsure", "confirmed")
            assert newest["who"].startswith("key ")
            assert code(await http.put(path, json={"label": "nice"})) == (400, "invalid_value")
            assert code(await http.put("/flagged/999", json={"label": "unsure"})) == (404, "flagged_not_found")
            assert code(await reader.put(path, json={"label": "unsure"})) == (403, "not_an_admin_key")
            assert (await http.put(path, json={"label": None})).status_code == 200
            assert [each["label"] for each in (await http.get("/flagged")).json()["data"]] == [None, None]

    asyncio.run(run())


def test_a_label_goes_with_its_response_and_never_to_another_of_its_number(both):
    replica = both(keep_flagged=1)
    flag = Flag(replica.clock(), "base", None, None, 0.9, "you fool")

    def label() -> str | None:
        (kept,) = replica.service.flagged.kept()
        return kept.label

    replica.service.flagged.write([flag])
    replica.service.flagged.label(replica.service.flagged.kept()[0].id, "confirmed")
    assert label() == "confirmed"
    replica.service.flagged.write([flag])  # the older one is pushed out
    assert label() is None
    replica.service.flagged.label(replica.service.flagged.kept()[0].id, "confirmed")
    asyncio.run(replica.service.flagged.clear())
    replica.service.flagged.write([flag])
    assert label() is None
