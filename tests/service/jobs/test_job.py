"""States of a job, with the right values written down before."""

from dataclasses import replace

import pytest

from service.errors import ConflictError
from service.experiments.experiment import Guardrail
from service.jobs import job as jobs
from service.jobs.job import Job, Lease, Spec

NEW = Job("j1", "improve", Spec("calm"), created_at=100.0, changed_at=100.0)
HELD = jobs.claimed(NEW, "w1", 110.0)


def corrected(approval="before-traffic"):
    held = replace(HELD, spec=replace(HELD.spec, approval=approval))
    return jobs.corrected(held, "w1", "calm@1", {"prompts": 60}, 150.0)


def canary(approval="before-traffic"):
    corrected_job = corrected(approval)
    return jobs.begun(jobs.approved(corrected_job, 160.0) if corrected_job.state == "waiting" else corrected_job, 170.0)


def test_a_claim_is_a_lease_of_a_minute():
    assert (HELD.state, HELD.lease, HELD.changed_at) == ("correcting", Lease("w1", 170.0), 110.0)
    again = jobs.claimed(HELD, "w1", 130.0)
    assert (again.lease, again.changed_at) == (Lease("w1", 190.0), 110.0)


def test_another_worker_may_take_it_when_the_lease_has_run_out_and_not_before():
    with pytest.raises(ConflictError, match="the worker 'w1' has it"):
        jobs.claimed(HELD, "w2", 169.9)
    assert jobs.claimed(HELD, "w2", 170.0).lease == Lease("w2", 230.0)


def test_what_is_over_or_waits_for_a_person_is_not_free():
    for job in (corrected(), canary(), jobs.cancelled(NEW, 1.0)):
        assert not job.free(1e9)
        with pytest.raises(ConflictError, match=f"it is {job.state}"):
            jobs.claimed(job, "w1", 1e9)


def test_by_default_a_mask_waits_for_approval_before_traffic():
    corrected_job = corrected()
    assert (corrected_job.state, corrected_job.waiting_for, corrected_job.lease) == ("waiting", "traffic", None)
    assert corrected_job.made == {"prompts": 60, "mask": "calm@1"}
    said_yes = jobs.approved(corrected_job, 160.0)
    assert (said_yes.state, said_yes.waiting_for, said_yes.reason) == ("approved", "", "a person said yes to traffic")
    begun = jobs.begun(said_yes, 170.0)
    assert (begun.state, begun.made["experiment"]) == ("canary", "job-j1")


@pytest.mark.parametrize("approval", ["before-promotion", "none"])
def test_elsewhere_it_goes_to_traffic_at_once(approval):
    assert corrected(approval).state == "approved"


def test_only_a_worker_that_has_the_job_hands_in_a_result():
    for job, worker in ((HELD, "w2"), (NEW, "w1"), (corrected(), "w1")):
        with pytest.raises(ConflictError, match="not in the hands of the worker"):
            jobs.corrected(job, worker, "calm@1", {}, 150.0)


@pytest.mark.parametrize(
    ("approval", "verdict", "state"),
    [
        ("before-traffic", "better", "promoted"),
        ("none", "better", "promoted"),
        ("before-promotion", "better", "waiting"),
        ("before-traffic", "worse", "rolled back"),
        ("before-promotion", "no difference that matters", "rolled back"),
    ],
)
def test_the_verdict_of_the_canary_decides(approval, verdict, state):
    judged_job = jobs.judged(canary(approval), verdict, "because", 200.0)
    assert (judged_job.state, judged_job.reason, judged_job.made["verdict"]) == (state, "because", verdict)
    assert judged_job.waiting_for == ("promotion" if state == "waiting" else "")


def test_a_person_promotes_what_was_found_better_and_a_guardrail_still_rolls_it_back():
    waits = jobs.judged(canary("before-promotion"), "better", "fewer", 200.0)
    assert jobs.approved(waits, 210.0).state == "promoted"
    assert jobs.judged(waits, "worse", "guardrail", 210.0).state == "rolled back"


def test_nobody_is_asked_for_approval_in_other_states():
    for job in (NEW, HELD, canary(), jobs.failed(NEW, "x", 1.0)):
        with pytest.raises(ConflictError, match="waits for nobody's approval"):
            jobs.approved(job, 160.0)


@pytest.mark.parametrize(("promoted", "state"), [(True, "promoted"), (False, "rolled back")])
def test_a_person_who_ends_the_canary_by_hand_is_believed(promoted, state):
    for job in (canary(), jobs.judged(canary("before-promotion"), "better", "fewer", 200.0)):
        settled_job = jobs.settled(job, promoted, "by an operator", 210.0)
        assert (settled_job.state, settled_job.waiting_for, settled_job.reason) == (state, "", "by an operator")


def test_what_is_over_stays_as_it_is():
    over = jobs.failed(HELD, "there are 12 flagged prompts", 120.0, "w1")
    assert (over.state, over.reason, over.lease) == ("failed", "there are 12 flagged prompts", None)
    for change in (lambda: jobs.cancelled(over, 1.0), lambda: jobs.failed(over, "again", 1.0)):
        with pytest.raises(ConflictError, match="is over: failed"):
            change()
    with pytest.raises(ConflictError, match="has no canary"):
        jobs.judged(over, "better", "", 1.0)


def test_a_regression_is_done_whatever_it_says():
    held = jobs.claimed(Job("r", "regression", Spec("calm@1")), "w1", 0.0)
    assert held.state == "measuring"
    job = jobs.measured(held, "w1", {"measured": {}}, False, "Perplexity rose by 9.0%.", 5.0)
    assert (job.state, job.made["holds"], job.reason) == ("done", False, "Perplexity rose by 9.0%.")


def test_json_and_back():
    spec = Spec("calm", guardrails=(Guardrail("error", "increase", 0.02),))
    job = replace(HELD, spec=spec, made={"mask": "calm@1"})
    assert Job.of(job.document()) == job
