"""Who is counted in an experiment, and how often: users, requests, failures."""

from __future__ import annotations

import asyncio
import json

import pytest
from fastapi.responses import JSONResponse
from sqlalchemy import text

from service import metrics
from tests.service.replica import READER, begun, counted

CHAT = "/v1/chat/completions"
ASK = {"model": "demo", "user": "ann"}


def test_in_an_experiment_responses_say_where_they_belong_and_are_counted_once_a_user(replicas):
    replica = replicas().with_detox()

    async def run() -> None:
        async with replica.client() as http, replica.client(READER) as reader:
            await begun(http)
            variants = []
            for number in [*range(20), *range(20)]:
                answer = await reader.post(CHAT, json={"model": "demo", "user": f"user-{number}"})
                assert answer.headers["x-excise-experiment"] == "ab"
                assert (
                    answer.headers["x-excise-mask"]
                    == {"control": "base", "v1": "detox@1"}[answer.headers["x-excise-variant"]]
                )
                variants.append(answer.headers["x-excise-variant"])
            assert variants[:20] == variants[20:]
            explicit = await reader.post(CHAT, json={"model": "demo:detox@2", "user": "user-1"})
            assert "x-excise-experiment" not in explicit.headers
            counts = counted(replica)
            assert sum(all_[0] for all_, _ in counts.values()) == 40
            assert sum(units[0] for _, units in counts.values()) == 20
            report = (await reader.get("/experiments/ab/report")).json()
            assert sum(variant["responses"] for variant in report["variants"]) == 40

    asyncio.run(run())


def test_requests_without_a_user_are_shown_and_in_no_test(replicas):
    replica = replicas().with_detox()

    async def run() -> None:
        async with replica.client() as http:
            await begun(http)
            for body in (
                {},
                {"user": None},
                {"user": ""},
                {"user": 7},
                {"user": ["ann"]},
                {"metadata": {"user_id": 7}},
            ):
                for _ in range(4):
                    assert (await http.post(CHAT, json={"model": "demo", **body})).status_code == 200
        counts = counted(replica)
        assert sum(all_[0] for all_, _ in counts.values()) == 24
        assert sum(units[0] for _, units in counts.values()) == 0
        assert len(counts) == 2
        async with replica.client(READER) as http:
            report = (await http.get("/experiments/ab/report")).json()
        assert sum(variant["anonymous"] for variant in report["variants"]) == 24
        assert report["warnings"][0].startswith("24 of 24 requests named no user and are in no test")
        shown = sum(metrics.EXPERIMENT_ANONYMOUS.labels("ab", name)._value.get() for name in counts)
        assert shown >= 24

    asyncio.run(run())


def test_the_user_is_named_by_the_body_or_else_by_the_header_that_the_operator_chose(replicas):
    replica = replicas(unit_header="x-user").with_detox()

    async def run() -> None:
        async with replica.client() as http:
            await begun(http)
            for body, header in [
                ({"user": "ann"}, {}),
                ({}, {"x-user": "ann"}),
                ({"user": "ann"}, {"x-user": "bob"}),
                ({"metadata": {"user_id": "ann"}}, {"x-user": "bob"}),
                ({"safety_identifier": "ann"}, {"x-user": "bob"}),
                ({"user": "ann", "safety_identifier": "eve"}, {}),
            ]:
                assert (await http.post(CHAT, json={"model": "demo", **body}, headers=header)).status_code == 200
            await http.post(CHAT, json={"model": "demo"}, headers={"x-user": "bob"})
        assert sum(units[0] for _, units in counted(replica).values()) == 2
        assert {routed.unit for _, _, routed in replica.seen} == {"ann", "bob"}

    asyncio.run(run())


def test_a_header_that_nobody_chose_names_no_user(replicas):
    replica = replicas().with_detox()

    async def run() -> None:
        async with replica.client() as http:
            await begun(http)
            for _ in range(3):
                await http.post(CHAT, json={"model": "demo"}, headers={"x-user": "ann"})
        assert sum(all_[0] for all_, _ in counted(replica).values()) == 3
        assert sum(units[0] for _, units in counted(replica).values()) == 0

    asyncio.run(run())


def test_in_an_experiment_by_request_nobody_is_anonymous(replicas):
    replica = replicas().with_detox()

    async def run() -> None:
        async with replica.client() as http:
            await begun(http, unit="request")
            for user in ("ann", "ann", ""):
                await http.post(CHAT, json={"model": "demo", "user": user})
            report = (await http.get("/experiments/ab/report")).json()
        assert sum(units[0] for _, units in counted(replica).values()) == 3
        assert [variant["anonymous"] for variant in report["variants"]] == [0, 0]

    asyncio.run(run())


def test_a_failed_request_without_a_user_is_an_error_and_in_no_test(replicas):
    replica = replicas().with_detox()
    replica.script = _status_500

    async def run() -> None:
        async with replica.client() as http:
            await begun(http)
        async with replica.client(strict=False) as http:
            await http.post(CHAT, json={"model": "demo"})
        assert sorted(all_ for all_, _ in counted(replica).values()) == [(0, 1)]
        assert sum(units[1] for _, units in counted(replica).values()) == 0

    asyncio.run(run())


@pytest.mark.parametrize("user", ["\ud800", "a\u0000b", "é" * 50_000, "👩‍🔬", "'; DROP TABLE units; --"])
def test_any_user_is_routed_and_counted(both, user):
    replica = both().with_detox()

    async def run() -> None:
        async with replica.client() as http:
            await begun(http)
            for _ in range(2):
                answer = await http.post(CHAT, content=json.dumps({"model": "demo", "user": user}))
                assert answer.status_code == 200
        assert sum(units[0] for _, units in counted(replica).values()) == 1

    asyncio.run(run())


async def _status_500(body):
    return JSONResponse({"error": "broken"}, 500)


async def _status_503(body):
    return JSONResponse({"error": "busy"}, 503)


async def _status_400(body):
    return JSONResponse({"error": "what was asked"}, 400)


async def _raises(body):
    raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("fault", "status", "errors"),
    [(_status_500, 500, 1), (_status_503, 503, 1), (_raises, 500, 1), (_status_400, 400, 0)],
)
def test_a_failed_request_is_one_error_of_its_variant(replicas, fault, status, errors):
    replica = replicas().with_detox()
    replica.script = fault

    async def run() -> None:
        async with replica.client() as http:
            await begun(http)
        async with replica.client(strict=False) as http:
            answer = await http.post(CHAT, json={**ASK, "n": 3})
            assert answer.status_code == status
        assert sum(all_[1] for all_, _ in counted(replica).values()) == errors
        assert sum(units[1] for _, units in counted(replica).values()) == errors

    asyncio.run(run())


def test_a_mask_that_cannot_be_resident_is_one_error_of_its_variant_and_never_the_base(replicas):
    replica = replicas().with_detox()

    async def run() -> None:
        async with replica.client() as http:
            await begun(http)
            replica.engine.refused.add("detox@1")
            statuses = [
                (await http.post(CHAT, json={"model": "demo", "user": f"user-{number}"})).status_code
                for number in range(20)
            ]
        assert set(statuses) == {200, 503}
        counts = counted(replica)
        assert counts["v1"] == [(0, statuses.count(503))] * 2
        assert counts["control"] == [(statuses.count(200), 0)] * 2
        assert not any(body["model"] == "demo:detox@1" for _, body, _ in replica.seen)
        value = metrics.EXPERIMENT_ERRORS.labels("ab", "v1")._value.get()
        assert value >= statuses.count(503)

    asyncio.run(run())


def test_outside_an_experiment_nothing_is_counted(replicas):
    replica = replicas().with_detox()
    replica.script = _status_500

    async def run() -> None:
        async with replica.client() as http:
            await http.post(CHAT, json=ASK)
        assert replica.service.ledger.waiting == 0

    asyncio.run(run())


def test_outcomes_of_a_deleted_experiment_are_gone(both):
    replica = both().with_detox()

    async def run() -> None:
        async with replica.client() as http:
            await begun(http)
            await http.post(CHAT, json=ASK)
            replica.service.ledger.flush()
            await http.post("/experiments/ab/stop")
            await http.delete("/experiments/ab")
        with replica.database.begin() as connection:
            for table in ("outcomes", "units"):
                assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0

    asyncio.run(run())
