"""A mask that harms by its own measurements is registered and served, and never in silence."""

from __future__ import annotations

import asyncio
import logging

import pytest

import masks
from service.load_time_masks import choose_load_time_mask
from tests.service.replica import READER, code, made

PERPLEXITY = "Perplexity rose by 245.0% (interval 210.0% to 290.0%)."
BEHAVIOUR = (
    "The behaviour did not fall for certain: 35.7% before, 100.0% after (difference 64.3%, interval 34.0% to 83.0%)."
)
MEASURED = {
    "difference": {"perplexity": [2.45, 2.1, 2.9]},
    "shown": {"before": [5, 14, 0.16, 0.61], "after": [14, 14, 0.78, 1.0], "difference": [0.6429, 0.34, 0.83]},
}
SAID = [f"bad@1: {PERPLEXITY}", f"bad@1: {BEHAVIOUR}"]
ARMS = [{"name": "control", "mask": "good", "weight": 1}, {"name": "treated", "mask": "bad", "weight": 1}]


def bad(measured=None):
    return made("bad", 1).with_meta(measured=MEASURED if measured is None else measured)


@pytest.fixture
def replica(replicas):
    new_replica = replicas()
    new_replica.add(bad(), made("good", 2))
    return new_replica


def test_registering_one_is_answered_and_logged_with_its_warnings(replicas, caplog):
    replica = replicas()

    async def run() -> None:
        async with replica.client() as http, replica.client(READER) as reader:
            with caplog.at_level(logging.WARNING):
                answer = await http.post("/masks", content=masks.dumps(bad()))
            assert (answer.status_code, answer.json()["warnings"]) == (201, [PERPLEXITY, BEHAVIOUR])
            messages = [record.message for record in caplog.records if "bad@1" in record.message]
            assert messages == [f"mask bad@1 was registered with warnings: {PERPLEXITY} {BEHAVIOUR}"]
            caplog.clear()
            answer = await http.post("/masks", content=masks.dumps(made("good", 2)))
            assert (answer.status_code, answer.json()["warnings"], caplog.records) == (201, [], [])
            assert (await http.post("/masks", content=masks.dumps(bad()))).json()["warnings"] == [PERPLEXITY, BEHAVIOUR]
            listed = (await reader.get("/masks")).json()["data"]
            assert [one["warnings"] for one in listed] == [[PERPLEXITY, BEHAVIOUR], []]
            for path in ("/masks/bad/1", "/masks/bad"):
                body = (await reader.get(path)).json()
                assert body.get("data", [body])[0]["warnings"] == [PERPLEXITY, BEHAVIOUR]
            register = (await http.get("/audit")).json()["data"][-1]
            assert register["reason"] == "\n".join(f"warning: {each}" for each in SAID)

    asyncio.run(run())


def test_a_line_of_the_log_stays_one_whatever_a_mask_says(replicas, caplog):
    replica, said = replicas(), ["fine\nERROR: \x1b[31mforged", "x" * 9_000]

    async def run() -> None:
        async with replica.client() as http:
            answer = await http.post("/masks", content=masks.dumps(bad({"warnings": said})))
            assert answer.json()["warnings"] == ["fine ERROR: [31mforged", "x" * 499 + "…"]

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert all(record.message.isprintable() for record in caplog.records)


@pytest.mark.parametrize("target", ["bad", "bad@1", "bad@live"])
def test_a_route_and_an_alias_to_one_are_answered_and_written_down_with_them(replica, target):
    async def run() -> None:
        async with replica.client() as http:
            alias = await http.put("/masks/bad/aliases/live", json={"version": 1})
            assert (alias.status_code, alias.json()["warnings"]) == (200, SAID)
            assert (await http.get("/masks/bad/aliases")).json()["data"][0]["warnings"] == SAID
            route = await http.put("/route", json={"target": target})
            assert (route.status_code, route.json()["warnings"]) == (200, SAID)
            assert (await http.get("/route")).json()["warnings"] == SAID
            assert (await http.put("/route", json={"target": "good"})).json()["warnings"] == []
            assert (await http.post("/route/rollback")).json()["warnings"] == SAID
            back, good, led, pointed, *_ = (await http.get("/audit")).json()["data"]
            assert good["reason"] is None
            for entry in (back, led, pointed):
                assert entry["reason"] == "\n".join(f"warning: {each}" for each in SAID)
            assert (led["after"], pointed["after"]) == (target, 1)

    asyncio.run(run())


def test_an_experiment_with_one_and_its_victory_are_answered_with_them(replica):
    async def run() -> None:
        async with replica.client() as http:
            answer = await http.post("/experiments", json={"name": "ab", "variants": ARMS})
            assert (answer.status_code, answer.json()["warnings"]) == (201, SAID)
            assert (await http.put("/route", json={"target": "experiment:ab"})).json()["warnings"] == SAID
            assert (await http.get("/experiments/ab")).json()["warnings"] == SAID
            answer = await http.post("/experiments/ab/stop", json={"winner": "treated"})
            assert (answer.status_code, answer.json()["status"], answer.json()["warnings"]) == (200, "stopped", SAID)
            led, stop, _, create, *_ = (await http.get("/audit")).json()["data"]
            warned = [f"warning: {each}" for each in SAID]
            assert create["reason"].split("\n") == warned
            assert stop["reason"].split("\n") == ["by an operator, winner treated", *warned]
            assert led["reason"].split("\n") == ["stop experiment: ab", *warned]
            assert "warnings" not in stop["after"]

    asyncio.run(run())


def test_stopping_for_a_sound_mask_warns_of_nothing(replica):
    async def run() -> None:
        async with replica.client() as http:
            await http.post("/experiments", json={"name": "ab", "variants": ARMS})
            assert (await http.post("/experiments/ab/stop", json={"winner": "control"})).json()["warnings"] == []
            assert (await http.get("/audit")).json()["data"][0]["reason"] == "by an operator, winner control"
            assert code(await http.put("/route", json={"target": "experiment:ab"})) == (409, "experiment_stopped")

    asyncio.run(run())


def test_a_report_shows_what_was_measured_offline_also_after_the_mask_is_gone(replica):
    async def run() -> None:
        async with replica.client() as http:
            await http.post(
                "/experiments", json={"name": "ab", "variants": [*ARMS, {**ARMS[0], "name": "x", "mask": "base"}]}
            )
            for gone in (False, True):
                report = (await http.get("/experiments/ab/report")).json()
                control, treated, base = report["variants"]
                assert treated["warnings"] == [PERPLEXITY, BEHAVIOUR]
                assert treated["offline"]["perplexity"] == {"value": 2.45, "low": 2.1, "high": 2.9}
                assert treated["offline"]["behaviour"] == {"before": 5 / 14, "after": 1.0}
                assert treated["offline"]["toxicity"] == {"before": None, "after": None}
                assert control["warnings"] == base["warnings"] == []
                assert control["offline"]["behaviour"] == {"before": None, "after": None}
                assert base["offline"] is None
                if not gone:
                    await http.post("/experiments/ab/stop")
                    assert (await http.delete("/masks/bad/1")).status_code == 204

    asyncio.run(run())


def test_a_server_loaded_with_one_says_so(replica, caplog):
    with caplog.at_level(logging.WARNING):
        choose_load_time_mask(replica.service, ["bad@1"])
    assert [record.message for record in caplog.records] == [f"mask bad@1 has warnings: {PERPLEXITY} {BEHAVIOUR}"]
