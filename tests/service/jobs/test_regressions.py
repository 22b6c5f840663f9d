"""When promoted masks are measured again, what is asked for, and what the measurement says."""

from __future__ import annotations

import copy

import pytest

from service import metrics
from service.errors import InvalidRequestError
from service.jobs.regressions import Regressions, promoted
from service.jobs.results import take_measurement, verdict
from service.jobs.store import Jobs
from tests.service.jobs.test_canary import said
from tests.service.replica import Clock

DAY = 86_400.0
MEASURED = {
    "before": {"toxic": [36, 40, 0.77, 0.96], "perplexity": [5.0, 4.9, 5.1]},
    "after": {"toxic": [2, 40, 0.01, 0.17], "perplexity": [5.05, 4.9, 5.2]},
    "difference": {"toxic": [-0.85, -0.93, -0.69], "perplexity": [0.01, 0.005, 0.015]},
}


@pytest.fixture
def replica(both):
    new_replica = both(Clock(), keep_flagged=100).with_detox(2)
    new_replica.clock.now = max(each.registered for each in new_replica.service.policy.masks["detox"].values()) + 1.0
    return new_replica


def look(*replicas) -> list[tuple[str, str, str]]:
    """Mask, state and test of each regression there is, once each replica has looked."""
    for replica in replicas:
        replica.service.reload()
        Regressions(replica.service)._look()
    regressions, _ = Jobs(replicas[0].database).list(kind="regression")
    return [(job.spec.mask, job.state, job.spec.test) for job in regressions]


def measure(replica, measured) -> None:
    jobs = Jobs(replica.database)
    (job,) = [each for each in jobs.going() if each.kind == "regression"]
    said(replica, f"/jobs/{job.id}/claim", worker="w1")
    take_measurement(replica.service, job.id, "w1", {"measured": measured})


def test_promoted_are_the_masks_of_the_route_and_of_production(replica):
    assert promoted(replica.service.policy) == {}
    replica.service.state.set_route("detox@1")
    replica.service.state.set_alias("detox", "production", 2)
    replica.service.state.set_alias("detox", "candidate", 1)
    replica.service.reload()
    assert list(promoted(replica.service.policy)) == ["detox@1", "detox@2"]


def test_a_promoted_mask_is_measured_again_a_week_after_it_was_last(replica):
    replica.service.state.set_route("detox@1")
    assert look(replica) == []
    replica.clock.now += 7 * DAY
    assert look(replica) == [("detox@1", "queued", "toxicity")]
    replica.clock.now += 20 * DAY
    assert look(replica) == [("detox@1", "queued", "toxicity")], "one is enough while nobody does it"
    measure(replica, MEASURED)
    assert look(replica)[0] == ("detox@1", "queued", "toxicity")
    measure(replica, MEASURED)
    assert [state for _, state, _ in look(replica)] == ["done", "done"]


def test_several_replicas_ask_once(both, replica):
    other = both(replica.clock)
    replica.service.state.set_route("detox@1")
    replica.clock.now += 7 * DAY
    assert len(look(replica, other, replica, other)) == 1


def test_with_zero_days_none_is_ever_asked_for(both):
    replica = both(Clock(4e9), regression_days=0).with_detox(1)
    replica.service.state.set_route("detox@1")
    assert look(replica) == []


def test_the_gauge_says_what_the_last_measurement_found(replica):
    replica.service.state.set_route("detox@1")
    replica.clock.now += 7 * DAY
    look(replica)

    def shown():
        return {one.labels["mask"]: one.value for one in metrics.HOLDS.collect()[0].samples}

    assert shown() == {}
    measure(replica, MEASURED)
    look(replica)
    assert shown() == {"detox@1": 1}
    replica.clock.now += 7 * DAY
    look(replica)
    measure(replica, changed(difference={"toxic": [-0.1, -0.3, 0.1]}))
    look(replica)
    assert shown() == {"detox@1": 0}
    replica.service.state.set_route("base")
    look(replica)
    assert shown() == {}


def changed(**sides):
    measurements = copy.deepcopy(MEASURED)
    for side, figures in sides.items():
        measurements[side] |= figures
    return measurements


@pytest.mark.parametrize(
    ("measured", "holds", "why"),
    [
        (MEASURED, True, "Toxicity: 90.0% without it, 5.0% with it; perplexity +1.0%."),
        (changed(difference={"toxic": [-0.1, -0.3, 0.1]}), False, "The behaviour did not fall for certain"),
        (changed(difference={"perplexity": [0.08, 0.06, 0.1]}), False, "Perplexity rose by 8.0%"),
        (
            changed(difference={"repetitive": [0.2, 0.1, 0.3]}),
            True,
            "perplexity +1.0%. Repetitive responses became more frequent",
        ),
    ],
)
def test_a_mask_holds_by_its_behaviour_and_perplexity(measured, holds, why):
    judgement = verdict(measured, "toxicity")
    assert judgement[0] is holds and why in judgement[1]


@pytest.mark.parametrize(
    "measured", [{}, {"difference": MEASURED["difference"]} | {"difference": {"toxic": [0, 0, 0]}}]
)
def test_a_measurement_without_its_figures_is_refused(measured):
    with pytest.raises(InvalidRequestError, match="lacks the difference"):
        verdict(measured, "toxicity")
