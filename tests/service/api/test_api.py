"""Our routes behind our gateway: what an operator and a client meet over HTTP. The engine is a stand-in."""

from __future__ import annotations

import asyncio

import pytest

import masks
from service import metrics
from service.storage.mask_files import MaskFiles
from tests.service.replica import READER, arms, begun, code, made

CHAT = "/v1/chat/completions"
ASK = {"model": "demo", "user": "ann"}
GOOD = {"name": "ab", "variants": arms(1, 1)}


def test_a_mask_goes_to_everybody_and_back_in_two_calls(both):
    replica = both().with_detox()

    async def run() -> None:
        async with replica.client() as http, replica.client(READER) as reader:
            assert (await reader.post(CHAT, json=ASK)).headers["x-excise-mask"] == "base"
            answer = await http.put("/route", json={"target": "detox@1"})
            assert answer.json() == {"object": "route", "model": "demo", "target": "detox@1", "warnings": []}
            assert (await reader.post(CHAT, json=ASK)).headers["x-excise-mask"] == "detox@1"
            assert (await http.post("/route/rollback")).json()["target"] == "base"
            assert (await reader.post(CHAT, json=ASK)).headers["x-excise-mask"] == "base"
            assert code(await http.post("/route/rollback")) == (409, "no_target_before")

    asyncio.run(run())


def test_an_alias_is_listed_asked_for_moved_and_rolled_back(both):
    replica = both().with_detox()

    async def run() -> None:
        async with replica.client() as http, replica.client(READER) as reader:
            for version in (1, 2):
                answer = await http.put("/masks/detox/aliases/live", json={"version": version})
                assert (answer.status_code, answer.json()["model"]) == (200, "demo:detox@live")
            assert (await reader.get("/masks/detox/aliases")).json()["data"][0]["version"] == 2
            assert "demo:detox@live" in [card["id"] for card in (await reader.get("/v1/models")).json()["data"]]
            ask = {"model": "demo:detox@live"}
            assert (await reader.post(CHAT, json=ask)).headers["x-excise-mask"] == "detox@2"
            assert (await http.post("/masks/detox/aliases/live/rollback")).json()["version"] == 1
            assert (await reader.post(CHAT, json=ask)).headers["x-excise-mask"] == "detox@1"
            assert code(await http.delete("/masks/detox/1")) == (409, "in_use")
            assert (await http.delete("/masks/detox/aliases/live")).status_code == 204
            assert code(await reader.post(CHAT, json=ask)) == (404, "mask_not_found")
            assert code(await http.delete("/masks/detox/aliases/live")) == (404, "alias_not_found")
            assert (await http.delete("/masks/detox/1")).status_code == 204

    asyncio.run(run())


def test_what_one_replica_sets_the_other_serves_once_it_has_looked(both):
    one, other = both(), both()

    async def run() -> None:
        async with one.client() as http, other.client(READER) as reader:
            mask = made("detox", 1)
            assert (await http.post("/masks", content=masks.dumps(mask))).status_code == 201
            await http.put("/route", json={"target": "detox"})
            assert (await reader.post(CHAT, json=ASK)).headers["x-excise-mask"] == "base"
            await other.service.follow()
            answer = await reader.post(CHAT, json=ASK)
            assert (answer.headers["x-excise-mask"], answer.headers["x-excise-digest"]) == ("detox@1", mask.digest)
            await http.post("/route/rollback")
            await http.delete("/masks/detox/1")
            await other.service.follow()
            assert (await reader.post(CHAT, json=ASK)).headers["x-excise-mask"] == "base"
            assert code(await reader.post(CHAT, json={"model": "demo:detox"})) == (404, "mask_not_found")

    asyncio.run(run())


def test_an_operators_calls_may_go_to_any_replica_in_turn(both):
    one, other = both(), both()

    async def run() -> None:
        async with one.client() as http, other.client() as elsewhere:
            await http.post("/masks", content=masks.dumps(made("detox", 1)))
            assert (await elsewhere.put("/masks/detox/aliases/live", json={"version": 1})).status_code == 200
            answer = await http.post("/experiments", json={"name": "ab", "variants": arms(1, 1)})
            assert answer.status_code == 201
            assert (await elsewhere.put("/route", json={"target": "experiment:ab"})).status_code == 200
            patch = {"revision": 1, "weights": {"v1": 3}}
            assert (await elsewhere.patch("/experiments/ab", json=patch)).json()["revision"] == 2
            assert code(await http.patch("/experiments/ab", json=patch)) == (409, "changed_since")
            assert (await elsewhere.post("/experiments/ab/stop")).status_code == 200
            assert (await http.get("/route")).json()["target"] == "experiment:ab"  # it has not looked yet
            assert (await http.delete("/experiments/ab")).status_code == 204

    asyncio.run(run())


def test_of_changes_on_one_revision_through_two_replicas_one_is_made(both):
    replicas = [both().with_detox(), both()]

    async def run() -> None:
        async with replicas[0].client() as http, replicas[1].client() as elsewhere:
            await begun(http)
            patches = [
                [http, elsewhere][number % 2].patch(
                    "/experiments/ab", json={"revision": 1, "weights": {"v1": number + 2}}
                )
                for number in range(8)
            ]
            answers = await asyncio.gather(*patches)
            assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
            made_it = next(answer.json() for answer in answers if answer.status_code == 200)
            assert (made_it["revision"], made_it["epoch"]) == (2, 1)
            assert {code(answer)[1] for answer in answers if answer.status_code == 409} == {"changed_since"}

    asyncio.run(run())


@pytest.mark.parametrize("priority", [1, -1, 0.5, "1", True, {"a": 1}])
def test_who_comes_first_is_no_clients_to_say(replicas, priority):
    replica = replicas()

    async def run() -> None:
        async with replica.client(READER) as http:
            answer = await http.post(CHAT, json={**ASK, "priority": priority})
            assert code(answer) == (400, "not_supported")
            assert "--scheduling-policy priority" in answer.json()["error"]["message"]
            assert (await http.post(CHAT, json={**ASK, "priority": 0})).status_code == 200
            replica.service.client_priority = True
            assert (await http.post(CHAT, json={**ASK, "priority": priority})).status_code == 200

    asyncio.run(run())


def test_too_many_choices_are_refused(replicas):
    replica = replicas(max_choices=4)

    async def run() -> None:
        async with replica.client(READER) as http:
            assert code(await http.post(CHAT, json={**ASK, "n": 5})) == (400, "too_many_choices")
            assert (await http.post(CHAT, json={**ASK, "n": 4})).status_code == 200

    asyncio.run(run())


def test_too_many_calls_of_one_admin_are_refused_with_when_to_come_again(replicas):
    replica = replicas(max_admin_calls=3)

    async def run() -> None:
        async with replica.client() as http, replica.client("another-admin-key") as other:
            for _ in range(3):
                assert (await http.get("/route")).status_code == 200
            answer = await http.put("/route", json={"target": "base"})
            assert code(answer) == (429, "too_many_admin_calls")
            assert 1 <= int(answer.headers["retry-after"]) <= 20
            assert (await other.get("/route")).status_code == 200
            assert (await http.post(CHAT, json=ASK)).status_code == 200
            assert (await http.get("/v1/models")).status_code == 200

    asyncio.run(run())


def test_an_engine_that_does_not_answer_is_not_ready(replicas):
    replica = replicas()

    async def run() -> None:
        async with replica.client() as http:
            replica.engine.dead = True
            assert code(await http.get("/ready")) == (503, "engine_not_ready")
            assert code(await http.post(CHAT, json=ASK)) == (503, "engine_died")
            replica.service.engine = None
            assert code(await http.get("/ready")) == (503, "engine_not_ready")

    asyncio.run(run())


def test_variants_are_pinned_to_the_versions_that_names_stand_for_at_creation(replicas):
    replica = replicas().with_detox()

    async def run() -> None:
        async with replica.client() as http:
            await http.put("/masks/detox/aliases/live", json={"version": 1})
            names = ["base", "detox", "detox@live", "detox@1"]
            variants = [{"name": f"v{n}", "mask": mask, "weight": 1} for n, mask in enumerate(names)]
            answer = await http.post("/experiments", json={"name": "ab", "variants": variants})
            pinned = [one["mask"] for one in answer.json()["variants"]]
            assert pinned == ["base", "detox@2", "detox@1", "detox@1"]
            await http.put("/masks/detox/aliases/live", json={"version": 2})
            assert [one["mask"] for one in (await http.get("/experiments/ab")).json()["variants"]] == pinned

    asyncio.run(run())


@pytest.mark.parametrize("format", ["json", "html", "png"])
def test_a_report_comes_in_each_form(replicas, format):
    replica = replicas().with_detox()

    async def run() -> None:
        async with replica.client() as http, replica.client(READER) as reader:
            await begun(http)
            assert (await reader.get("/experiments/ab/report", params={"format": format})).status_code == 200
            assert code(await reader.get("/experiments/nope/report")) == (404, "experiment_not_found")
            assert (await reader.get("/experiments/ab/report?format=exe")).status_code == 400

    asyncio.run(run())


def test_a_mask_file_in_an_object_store_is_downloaded_from_any_replica(replicas, tmp_path):
    one, other = replicas(), replicas()
    for replica in (one, other):
        replica.service.registry.files = MaskFiles(f"file://{tmp_path / 'bucket'}")
    one.add(made("detox", 1))

    async def run() -> None:
        async with other.client() as http:
            answer = await http.get("/masks/detox/1/file")
            assert (answer.status_code, answer.content) == (200, masks.dumps(made("detox", 1)))
            path = next((tmp_path / "bucket").iterdir())
            path.unlink()
        async with replicas().client() as http:
            assert code(await http.get("/masks/detox/1/file")) == (503, "mask_file_missing")

    asyncio.run(run())


def test_a_winner_becomes_the_route_and_stopping_twice_is_refused(replicas):
    replica = replicas().with_detox()
    before = metrics.STOPPED.labels("won", "operator")._value.get()

    async def run() -> None:
        async with replica.client() as http:
            await begun(http, "won")
            assert code(await http.post("/experiments/won/stop", json={"winner": "x"})) == (400, "invalid_experiment")
            assert code(await http.post("/experiments/won/stop", json={"revision": 9})) == (409, "changed_since")
            answer = await http.post("/experiments/won/stop", json={"winner": "v1", "revision": 1})
            assert (answer.json()["status"], answer.json()["share"]) == ("stopped", {})
            assert (await http.get("/route")).json()["target"] == "detox@1"
            assert code(await http.post("/experiments/won/stop")) == (409, "experiment_stopped")
            assert code(await http.put("/route", json={"target": "experiment:won"})) == (409, "experiment_stopped")
            assert (await http.post("/route/rollback")).json()["target"] == "base"
            assert metrics.STOPPED.labels("won", "operator")._value.get() == before + 1
            assert (await http.delete("/experiments/won")).status_code == 204
            assert code(await http.post("/experiments", json={**GOOD, "name": "won"})) == (409, "experiment_exists")

    asyncio.run(run())


def test_an_experiment_about_what_nobody_scores_is_refused(replicas):
    replica = replicas()
    replica.service.intake.scores = False
    arms = [{"name": "control", "mask": "base", "weight": 1}, {"name": "treated", "mask": "base", "weight": 1}]

    async def run() -> None:
        async with replica.client() as http:
            refused = await http.post("/experiments", json={"name": "ab", "variants": arms})
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "not_scored")
            taken = await http.post("/experiments", json={"name": "ab", "variants": arms, "metric": "error"})
            assert taken.status_code == 201

    asyncio.run(run())
