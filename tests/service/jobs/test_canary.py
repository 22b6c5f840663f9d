"""A job from queue to promotion on the real application, on both kinds of database, without an engine."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select

import masks
from service.experiments.outcomes.totals import Outcome, Value
from service.jobs import job as states
from service.jobs.canary import end
from service.jobs.store import Jobs
from service.storage.tables import audit
from tests.service.replica import READER, Clock, Replica, code, made

BODY = {"id": "j1", "mask": "calm", "share": 0.5, "margin": 0.05, "guardrails": []}


def conduct(*found: Replica) -> None:
    """Each of these replicas looks at its jobs, all at one moment."""

    async def run() -> None:
        await asyncio.gather(*(one.service.background_tasks.canaries.conduct() for one in found))

    asyncio.run(run())


def call(replica: Replica, method: str, path: str, key: str | None = None, **more):
    async def run():
        async with replica.client(*([key] if key else [])) as http:
            return await http.request(method, path, **more)

    return asyncio.run(run())


def said(replica: Replica, path: str, **body):
    answer = call(replica, "POST", path, json=body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def handed_in(replica: Replica, **spec):
    """A job whose mask ``calm@1`` was made and handed in."""
    said(replica, "/jobs", **{**BODY, **spec})
    said(replica, "/jobs/j1/claim", worker="w1")
    assert call(replica, "POST", "/masks", content=masks.dumps(made("calm", 3))).status_code in (200, 201)
    return said(replica, "/jobs/j1/result", worker="w1", mask="calm@1", measured={"a": 1}, prompts=60)


def respond(replica: Replica, variant: str, users: range, toxic: bool) -> None:
    """Each of these users gets a response, which makes sense, and it is written down."""
    ledger = replica.service.ledger
    for user in users:
        where = ("job-j1", 0, variant, f"{variant}-{user}")
        ledger.add(Outcome(*where, counted=True, by_user=True, tokens=5, seconds=0.1, toxic=toxic))
        ledger.add(Value(*where, True, True, "coherence", -1.0))
    ledger.flush()


def lines(replica: Replica) -> list[tuple[str, str]]:
    with replica.database.begin() as connection:
        return [(row.action, row.who) for row in connection.execute(select(audit).order_by(audit.c.id))]


def route(replica: Replica) -> str:
    return call(replica, "GET", "/route").json()["target"]


@pytest.fixture
def replica(both):
    return both(Clock(), keep_flagged=100)


def test_from_queue_to_promotion_with_a_line_in_the_audit_for_each_step(replica):
    waits = handed_in(replica)
    assert (waits["state"], waits["waiting_for"], waits["made"]["mask"]) == ("waiting", "traffic", "calm@1")
    assert call(replica, "GET", "/masks/calm/aliases").json()["data"][0]["alias"] == "candidate"
    conduct(replica)
    assert route(replica) == "base"
    assert said(replica, "/jobs/j1/approve")["state"] == "approved"
    conduct(replica)
    assert route(replica) == "experiment:job-j1"
    respond(replica, "control", range(200), True)
    respond(replica, "candidate", range(200), False)
    conduct(replica)
    job = call(replica, "GET", "/jobs/j1", READER).json()
    assert (job["state"], job["made"]["verdict"]) == ("promoted", "better"), job
    assert route(replica) == "calm@1"
    aliases = call(replica, "GET", "/masks/calm/aliases").json()["data"]
    assert {each["alias"]: each["version"] for each in aliases} == {"candidate": 1, "production": 1}
    before = lines(replica)
    conduct(replica)
    assert lines(replica) == before
    actions = [action for action, _ in before]
    assert actions == [
        *("create improve job", "take job", "register", "hand in mask", "set alias", "approve job"),
        *("create experiment", "begin canary", "set route"),
        *("stop experiment", "set route", "end job", "set alias"),
    ]
    assert [who.partition(" ")[0] for _, who in before] == ["key"] * 6 + ["server"] * 7


def test_several_replicas_begin_and_end_one_canary(both):
    first, second, third = (both(Clock(), keep_flagged=100) for _ in range(3))
    handed_in(first, approval="none")
    conduct(first, second, third)
    for replica in (first, second, third):
        conduct(replica)
    assert [action for action, _ in lines(first)].count("create experiment") == 1
    respond(second, "control", range(200), True)
    respond(second, "candidate", range(200), False)
    conduct(first, second, third)
    conduct(first, second, third)
    actions = [action for action, _ in lines(first)]
    assert [actions.count(each) for each in ("begin canary", "stop experiment", "end job")] == [1, 1, 1]
    assert Jobs(first.database).get("j1").state == "promoted"


def test_a_worse_mask_is_rolled_back_with_the_reason(replica):
    handed_in(replica, approval="none")
    conduct(replica)
    respond(replica, "control", range(200), False)
    respond(replica, "candidate", range(200), True)
    conduct(replica)
    job = call(replica, "GET", "/jobs/j1").json()
    assert (job["state"], job["made"]["verdict"], route(replica)) == ("rolled back", "worse", "base")
    assert "100" in job["reason"]


def test_approval_before_promotion(replica):
    handed_in(replica, approval="before-promotion")
    conduct(replica)
    respond(replica, "control", range(200), True)
    respond(replica, "candidate", range(200), False)
    conduct(replica)
    job = call(replica, "GET", "/jobs/j1").json()
    assert (job["state"], job["waiting_for"], route(replica)) == ("waiting", "promotion", "experiment:job-j1")
    assert said(replica, "/jobs/j1/approve")["state"] == "promoted"
    assert route(replica) == "calm@1"


@pytest.mark.parametrize(
    ("winner", "state", "target"), [(None, "rolled back", "base"), ("candidate", "promoted", "calm@1")]
)
def test_an_operator_who_stops_the_canary_by_hand_is_believed(replica, winner, state, target):
    handed_in(replica, approval="none")
    conduct(replica)
    said(replica, "/experiments/job-j1/stop", winner=winner)
    conduct(replica)
    assert (call(replica, "GET", "/jobs/j1").json()["state"], route(replica)) == (state, target)


def test_cancelling_ends_the_canary(replica):
    handed_in(replica, approval="none")
    conduct(replica)
    assert said(replica, "/jobs/j1/cancel")["state"] == "cancelled"
    assert route(replica) == "base"
    assert code(call(replica, "POST", "/jobs/j1/cancel")) == (409, "job_over")


def test_a_job_whose_canary_began_a_moment_ago_is_not_cancelled_without_it(both):
    first, second = (both(Clock(), keep_flagged=100) for _ in range(2))
    handed_in(first, approval="none")
    job = Jobs(first.database).get("j1")
    conduct(second)
    ended_job = asyncio.run(end(first.service, job, lambda each: states.cancelled(each, 0.0), "cancelled"))
    assert ended_job.state == "cancelled"
    assert call(first, "GET", "/experiments/job-j1").json()["status"] == "stopped"


def test_a_canary_that_nothing_is_known_of_is_rolled_back_in_time(replica):
    handed_in(replica, approval="none", hours=2)
    conduct(replica)
    replica.clock.now += 7199
    conduct(replica)
    assert call(replica, "GET", "/jobs/j1").json()["state"] == "canary"
    replica.clock.now += 1
    conduct(replica)
    job = call(replica, "GET", "/jobs/j1").json()
    assert (job["state"], job["made"]["verdict"], route(replica)) == ("rolled back", "keep watching", "base")


def test_a_canary_waits_for_another_experiment_and_says_so(replica):
    replica.with_detox(1)
    said(
        replica,
        "/experiments",
        name="ab",
        variants=[{"name": n, "mask": m, "weight": 1} for n, m in (("a", "base"), ("b", "detox@1"))],
    )
    assert call(replica, "PUT", "/route", json={"target": "experiment:ab"}).status_code == 200
    handed_in(replica, approval="none")
    conduct(replica)
    job = call(replica, "GET", "/jobs/j1").json()
    assert job["state"] == "approved" and "experiment:ab" in job["reason"]
    said(replica, "/experiments/ab/stop", winner="b")
    conduct(replica)
    assert call(replica, "GET", "/experiments/job-j1").json()["variants"][0]["mask"] == "detox@1"


def test_a_mask_that_cannot_be_resident_is_tried_again(replica):
    handed_in(replica, approval="none")
    replica.engine.refused.add("calm@1")
    conduct(replica)
    assert call(replica, "GET", "/jobs/j1").json()["state"] == "approved"
    replica.engine.refused.clear()
    conduct(replica)
    assert call(replica, "GET", "/jobs/j1").json()["state"] == "canary"
