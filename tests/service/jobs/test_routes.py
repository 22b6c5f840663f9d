"""``/jobs`` over HTTP: what is taken, refused, and found again."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

import masks
from service.scoring.flagged import Flag
from service.storage.tables import labels
from tests.service.jobs.test_canary import call, said
from tests.service.replica import READER, Clock, code, made

BODY = {"id": "j1", "mask": "calm"}


@pytest.fixture
def replica(replicas):
    return replicas(Clock(), keep_flagged=100)


def test_a_job_has_careful_defaults(replica):
    job = said(replica, "/jobs", mask="calm")
    assert job["id"].startswith("calm-") and job["state"] == "queued" and job["free"]
    spec = job["spec"]
    assert (spec["test"], spec["approval"], spec["increase"], spec["minimum"]) == (
        "toxicity",
        "before-traffic",
        0.01,
        50,
    )
    assert (spec["share"], spec["hours"]) == (0.1, 168)
    assert {each["metric"] for each in spec["guardrails"]} == {"error", "refusal", "repetition"}


def test_the_same_job_is_found_again_and_another_of_its_id_is_refused(replica):
    assert call(replica, "POST", "/jobs", json=BODY).status_code == 201
    assert call(replica, "POST", "/jobs", json=BODY).status_code == 200
    assert code(call(replica, "POST", "/jobs", json={**BODY, "share": 0.2})) == (409, "job_exists")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"keep_flagged": 0}, "not_kept"), ({"scored": False}, "not_scored"), ({"baked": True}, "mask_not_usable")],
)
def test_what_could_never_be_done_is_refused(replicas, settings, expected):
    replica = replicas(Clock(), keep_flagged=settings.get("keep_flagged", 100)).with_detox(1)
    replica.service.intake.scores = settings.get("scored", True)
    if settings.get("baked"):
        replica.service.capabilities.baked = replica.service.policy.masks["detox"][1]
    assert code(call(replica, "POST", "/jobs", json=BODY)) == (409, expected)


@pytest.mark.parametrize("body", [{"mask": "calm@1"}, {"mask": "base"}, {"mask": "calm", "approval": "never"}, {}])
def test_a_bad_body_is_refused(replica, body):
    assert call(replica, "POST", "/jobs", json=body).status_code == 400


def test_readers_look_and_change_nothing(replica):
    said(replica, "/jobs", **BODY)
    assert [job["id"] for job in call(replica, "GET", "/jobs", READER).json()["data"]] == ["j1"]
    assert call(replica, "GET", "/jobs/j1", READER).json()["state"] == "queued"
    for method, path in (
        *(("POST", f"/jobs/j1/{what}") for what in ("claim", "result", "approve", "cancel")),
        *(("POST", "/jobs"), ("GET", "/jobs/j1/prompts")),
    ):
        assert call(replica, method, path, READER, json=BODY).status_code == 403


def test_what_is_not_there(replica):
    assert code(call(replica, "GET", "/jobs/nobody")) == (404, "job_not_found")
    assert code(call(replica, "POST", "/jobs", json={"kind": "regression", "mask": "calm@1"})) == (
        404,
        "mask_not_found",
    )


def test_lists_by_state_and_kind_the_newest_first(replica):
    for number in range(3):
        replica.clock.now += 1
        said(replica, "/jobs", id=f"j{number}", mask="calm")
    said(replica, "/jobs/j1/cancel")
    assert [job["id"] for job in call(replica, "GET", "/jobs").json()["data"]] == ["j2", "j1", "j0"]
    assert [job["id"] for job in call(replica, "GET", "/jobs?state=cancelled").json()["data"]] == ["j1"]
    assert call(replica, "GET", "/jobs?kind=regression").json()["total"] == 0


def test_prompts_of_flagged_responses_the_confirmed_ones_first(replica):
    said(replica, "/jobs", **BODY)
    replica.service.flagged.write(
        [Flag(replica.clock.now, "base", None, None, 0.9, "fool", f"prompt {number}") for number in (1, 2, 3)]
    )
    with replica.database.begin() as connection:
        connection.execute(insert(labels).values(flagged=1, label="confirmed", who="x", at=1.0))
    assert call(replica, "PUT", "/flagged/3", json={"label": "false alarm"}).status_code == 200
    prompts = call(replica, "GET", "/jobs/j1/prompts").json()["data"]
    assert [(each["prompt"], each["label"]) for each in prompts] == [("prompt 1", "confirmed"), ("prompt 2", None)]


def test_a_lease_is_kept_by_its_worker_and_taken_by_another_when_it_has_run_out(replica):
    said(replica, "/jobs", **BODY)
    first = said(replica, "/jobs/j1/claim", worker="w1")
    assert (first["lease"]["holder"], first["free"]) == ("w1", False)
    assert code(call(replica, "POST", "/jobs/j1/claim", json={"worker": "w2"})) == (409, "job_not_free")
    replica.clock.now += 61
    assert said(replica, "/jobs/j1/claim", worker="w2")["lease"]["holder"] == "w2"
    answer = call(replica, "POST", "/jobs/j1/result", json={"worker": "w1", "failed": "late"})
    assert code(answer) == (409, "job_not_held")


def test_a_result_is_taken_once_however_often_it_is_sent(replica):
    said(replica, "/jobs", **BODY)
    said(replica, "/jobs/j1/claim", worker="w1")
    call(replica, "POST", "/masks", content=masks.dumps(made("calm", 3)))
    body = {"worker": "w1", "mask": "calm@1", "measured": {}}
    first, again = (said(replica, "/jobs/j1/result", **body) for _ in range(2))
    assert first == again and first["state"] == "waiting"


@pytest.mark.parametrize(
    ("mask", "expected"), [("other@1", (400, "wrong_result")), ("calm@7", (404, "mask_not_found"))]
)
def test_a_mask_that_was_not_asked_for_or_is_not_there_is_refused(replica, mask, expected):
    said(replica, "/jobs", **BODY)
    said(replica, "/jobs/j1/claim", worker="w1")
    assert code(call(replica, "POST", "/jobs/j1/result", json={"worker": "w1", "mask": mask})) == expected
    assert call(replica, "GET", "/jobs/j1").json()["state"] == "correcting"


def test_a_failure_is_the_end_and_says_why(replica):
    said(replica, "/jobs", **BODY)
    said(replica, "/jobs/j1/claim", worker="w1")
    why = "There are 12 flagged prompts, and 50 are needed: wait for more traffic."
    for _ in range(2):
        job = said(replica, "/jobs/j1/result", worker="w1", failed=why)
        assert (job["state"], job["reason"]) == ("failed", why)
    assert code(call(replica, "POST", "/jobs/j1/approve")) == (409, "job_not_waiting")
