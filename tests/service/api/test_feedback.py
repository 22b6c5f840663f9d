"""``POST /feedback``: what may be said, by whom, and what becomes of it; and coherence on its way to the report."""

from __future__ import annotations

import asyncio

import pytest

from service.experiments.experiment import Guardrail
from service.routing.policy import ROUTED
from service.scoring.response import Response
from tests.service.replica import READER, begun, code, counted

CHAT = "/v1/chat/completions"


def answering(replica):
    """Responses take the intake's way, and have the id ``chatcmpl-USER``."""

    async def script(body):
        routed = ROUTED.get()
        routed.digest = routed.choice.digest
        given = {"assigned": routed.choice.assigned, "unit": routed.unit, "id": f"chatcmpl-{body.get('user')}"}
        replica.service.intake.put(Response(routed.choice.label, "text", (1, 2), context=(7,), **given))
        return None

    replica.script = script
    return replica


def test_feedback_is_counted_for_the_variant_that_answered_and_in_tests_once_a_user(replicas):
    replica = answering(replicas().with_detox())

    async def run() -> None:
        async with replica.client(READER) as reader, replica.client() as http:
            await begun(http)
            given = {}
            for number in range(12):
                answer = await reader.post(CHAT, json={"model": "demo", "user": f"user-{number}"})
                body = {"id": f"chatcmpl-user-{number}", **({"thumb": "up"} if number % 2 else {"value": -0.25})}
                said = await reader.post("/feedback", json=body)
                assert said.status_code == 200, said.text
                assert said.json()["variant"] == answer.headers["x-excise-variant"]
                assert said.json()["value"] == (1.0 if number % 2 else -0.25)
                given.setdefault(said.json()["variant"], []).append(said.json()["value"])
            counted(replica)
            report = (await http.get("/experiments/ab/report")).json()
            assert {one["name"]: one["rated"] for one in report["variants"]} == {
                name: len(values) for name, values in given.items()
            }
            for one in report["variants"]:
                assert one["feedback"]["value"] == pytest.approx(sum(given[one["name"]]) / len(given[one["name"]]))

    asyncio.run(run())


def test_a_second_feedback_is_refused_and_an_unknown_id_not_found(replicas):
    replica = answering(replicas().with_detox())

    async def run() -> None:
        async with replica.client(READER) as http, replica.client() as admin:
            await begun(admin)
            await http.post(CHAT, json={"model": "demo", "user": "ann"})
            body = {"id": "chatcmpl-ann", "value": 0}
            assert (await http.post("/feedback", json=body)).status_code == 200
            assert code(await http.post("/feedback", json={**body, "value": 1})) == (409, "feedback_given")
            unknown = await http.post("/feedback", json={"id": "chatcmpl-bob", "value": 1})
            assert code(unknown) == (404, "response_not_found")
            await http.post(CHAT, json={"model": "demo:base", "user": "eve"})
            outside = await http.post("/feedback", json={"id": "chatcmpl-eve", "value": 1})
            assert code(outside) == (404, "response_not_found")

    asyncio.run(run())


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": "x"},
        {"id": "x", "value": 1, "thumb": "up"},
        {"id": "x", "value": 1.5},
        {"id": "x", "value": "1"},
        {"id": "x", "value": True},
        {"id": "x", "thumb": "sideways"},
        {"id": "", "thumb": "up"},
        {"id": "x", "thumb": "up", "text": "nice"},
    ],
)
def test_what_is_no_feedback_is_refused(replicas, body):
    replica = replicas()

    async def run() -> None:
        async with replica.client(READER) as http:
            answer = await http.post("/feedback", json=body)
            assert answer.status_code in (400, 422), answer.text

    asyncio.run(run())


def test_feedback_takes_the_keys_of_users(replicas):
    replica = replicas()

    async def run() -> None:
        for key, status in ((None, 401), ("a-wrong-key", 401), (READER, 404)):
            async with replica.client(key) as http:
                assert (await http.post("/feedback", json={"id": "x", "value": 1})).status_code == status

    asyncio.run(run())


def test_the_coherence_of_responses_reaches_the_report(replicas):
    replica = answering(replicas(coherence_rate=1.0).with_detox())
    replica.engine.coherence = -2.5

    async def run() -> None:
        async with replica.client() as http:
            await begun(http)
            coherence = replica.service.intake.coherence
            coherence.start()
            for number in range(20):
                await http.post(CHAT, json={"model": "demo", "user": f"user-{number}"})
            for _ in range(500):
                await asyncio.sleep(0.005)
                if len(replica.engine.judged) == 20:
                    break
            await coherence.close()
            counted(replica)
            report = (await http.get("/experiments/ab/report")).json()
        assert replica.engine.judged == [([7], [1, 2])] * 20
        assert sum(one["judged"] for one in report["variants"]) == 20
        assert {one["coherence"]["value"] for one in report["variants"]} == {-2.5}
        assert coherence.users == 0

    asyncio.run(run())


def test_an_experiment_guards_coherence_unless_it_has_a_bound_of_its_own(replicas):
    replica = replicas().with_detox()
    usual = {"metric": "coherence", "direction": "decrease", "margin": 0.5}

    async def run() -> None:
        async with replica.client() as http:
            made = await begun(http)
            assert made["guardrails"] == [usual]
            guardrail = {"metric": "coherence", "margin": 2.0}
            changed = await http.patch("/experiments/ab", json={"revision": 1, "guardrails": [guardrail]})
            assert changed.json()["guardrails"] == [{**guardrail, "direction": "decrease"}]
            other = {"metric": "feedback", "margin": 0.1}
            changed = await http.patch("/experiments/ab", json={"revision": 2, "guardrails": [other]})
            assert changed.json()["guardrails"] == [{**other, "direction": "decrease"}, usual]

    asyncio.run(run())


def test_a_server_that_judges_nothing_guards_no_coherence(replicas):
    replica = replicas(coherence_rate=0.0).with_detox()

    async def run() -> None:
        async with replica.client() as http:
            made = await begun(http)
            assert made["guardrails"] == []
            guardrails = [{"metric": "coherence"}]
            refused = await http.patch("/experiments/ab", json={"revision": 1, "guardrails": guardrails})
            assert code(refused) == (409, "not_scored")
            report = (await http.get("/experiments/ab/report")).json()
            assert any("Nothing guards the coherence" in note for note in report["notes"])

    asyncio.run(run())


def test_a_guardrail_goes_the_way_that_is_worse():
    assert [Guardrail.default_direction(one) for one in ("coherence", "feedback", "toxicity", "length")] == [
        "decrease",
        "decrease",
        "increase",
        "increase",
    ]
