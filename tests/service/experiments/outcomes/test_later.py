"""What becomes known of a response later: coherence and feedback, once for each unit in the tests."""

from __future__ import annotations

import pytest

from service.errors import ConflictError, NotFoundError
from service.experiments.outcomes import queries
from service.experiments.outcomes.answers import Answer, Answers
from service.experiments.outcomes.ledger import Ledger
from service.experiments.outcomes.totals import Outcome, Totals, Value
from service.routing.policy import Assigned
from service.scoring.response import Response
from service.storage.database import DatabaseLostError
from tests.service.experiments.outcomes.minutes import timeline
from tests.service.experiments.outcomes.test_ledger import Clock, only, response, rows


def value(unit="u", what="coherence", number=-1.5, *, variant="a", by_user=True, counted=True, epoch=0) -> Value:
    return Value("e", epoch, variant, unit, counted, by_user, what, number)


def answered(id="chatcmpl-1", unit="user:ann", *, experiment="e", **more) -> Response:
    where = Assigned(experiment, 2, "v1", unit, True, True)
    return Response("detox@1", "text", (1,), **{"assigned": where, "id": id, **more})


def test_a_value_is_added_to_its_sums_and_to_no_other():
    numbers = Totals().numbers()
    value(number=-1.5).count_in(numbers)
    value(number=-0.5).count_in(numbers)
    value(what="feedback", number=0.5).count_in(numbers)
    totals = Totals.of(numbers)
    assert totals == Totals(
        judged=2, coherence=-2.0, coherence_squared=2.5, rated=1, feedback=0.5, feedback_squared=0.25
    )


@pytest.mark.parametrize(
    ("what", "number"), [("feedback", 1.01), ("feedback", -1.01), ("feedback", float("nan")), ("coherence", 0.1)]
)
def test_a_value_out_of_its_range_is_refused(what, number):
    with pytest.raises(ValueError, match="lies between"):
        value(what=what, number=number)


def test_of_each_user_the_first_value_of_a_kind_counts_in_tests_whatever_came_before(database):
    ledger = Ledger(database, "r", Clock())
    ledger.add(response("ann"))
    ledger.flush()
    for number in (-1.0, -2.0):
        ledger.add(value("ann", number=number))
    ledger.add(value("ann", "feedback", 1.0))
    ledger.add(value("bob", number=-3.0))
    ledger.flush()
    ledger.add(value("ann", number=-4.0))
    ledger.flush()
    everything, tested = only(database)
    assert (everything.responses, everything.judged, everything.coherence) == (1, 4, -10.0)
    assert (tested.responses, tested.judged, tested.coherence) == (1, 2, -4.0)
    assert (tested.rated, tested.feedback) == (1, 1.0)


def test_what_does_not_count_is_only_shown(database):
    ledger = Ledger(database, "r", Clock())
    ledger.add(value(counted=False, by_user=False))
    ledger.add(response(counted=False, by_user=False, anonymous=True))
    ledger.flush()
    everything, tested = only(database)
    assert (everything.judged, everything.anonymous, everything.responses) == (1, 1, 1)
    assert tested == Totals()


def test_feedback_finds_the_variant_that_answered(database):
    answers = Answers(database, 24.0, Clock())
    answers.put(answered())
    answer = answers.rate("chatcmpl-1", 0.5)
    assert answer == Answer("e", 2, "v1", answer.unit, True, True)
    assert "ann" not in answer.unit and len(answer.unit) == 32


def test_feedback_may_come_to_another_replica_and_only_once(database):
    here, there = (Answers(database, 24.0, Clock()) for _ in range(2))
    here.put(answered())
    here.write()
    there.rate("chatcmpl-1", 0.5)
    for one in (here, there):
        with pytest.raises(ConflictError, match="the first counts"):
            one.rate("chatcmpl-1", -0.5)


@pytest.mark.parametrize("more", [{"id": ""}, {"assigned": None}, {"counted": False}])
def test_copies_other_choices_and_what_is_in_no_experiment_are_not_remembered(database, more):
    answers = Answers(database, 24.0, Clock())
    answers.put(answered(**more))
    with pytest.raises(NotFoundError):
        answers.rate("chatcmpl-1", 0.5)


def test_after_its_hours_a_response_is_not_known_and_then_forgotten(database):
    clock = Clock()
    answers = Answers(database, 24.0, clock)
    answers.put(answered())
    answers.write()
    clock.now += 24 * 3600 + 1
    with pytest.raises(NotFoundError, match="24 hours"):
        answers.rate("chatcmpl-1", 0.5)
    assert rows(database, queries.answers) == 1
    answers.expire()
    assert rows(database, queries.answers) == 0


def test_an_id_chosen_twice_stands_for_the_later_response(database):
    answers = Answers(database, 24.0, Clock())
    answers.put(answered())
    answers.put(answered(assigned=Assigned("e", 3, "v2", "user:bob", True, True)))
    assert answers.rate("chatcmpl-1", 1.0).variant == "v2"
    answers.put(answered())
    assert answers.rate("chatcmpl-1", 1.0).variant == "v1"


def test_a_lost_database_keeps_what_waits(database, commits):
    answers = Answers(database, 24.0, Clock())
    for number in range(1_200):
        answers.put(answered(f"chatcmpl-{number}"))
    commits.fate = "is lost"
    with pytest.raises(DatabaseLostError):
        answers.write()
    commits.fate = "succeeds"
    answers.write()
    answers.write()
    assert rows(database, queries.answers) == 1_200


def test_old_minutes_and_users_of_what_is_over_are_forgotten_and_the_sums_stay(database):
    clock = Clock()
    ledger = Ledger(database, "r", clock)
    for _ in range(3):
        for experiment in ("e", "over"):
            ledger.add(Outcome(experiment, 0, "a", f"user {clock.now}", True, True, tokens=10, seconds=0.5))
        ledger.flush()
        clock.now += 86_400
    before = [queries.tallies(database, name) for name in ("e", "over")]
    queries.expire(database, clock.now - 1.5 * 86_400, ["over"])
    assert [queries.tallies(database, name) for name in ("e", "over")] == before
    assert len(timeline(database, "e")) == 1
    assert rows(database, queries.units) == 3


def test_the_course_is_that_of_the_timeline_without_histograms(database):
    clock = Clock()
    ledger = Ledger(database, "r", clock)
    for number in range(9):
        ledger.add(response(f"user {number}", "ab"[number % 2], toxic=number % 3 == 0))
        clock.now += 45
    ledger.flush()
    moments = queries.course(database, "e", 5)
    assert [(one.start, one.variant, one.all.responses, one.all.toxic) for one in moments] == [
        (one.start, one.variant, one.all.responses, one.all.toxic) for one in timeline(database, "e", 5)
    ]
    assert {one.minutes for one in moments} == {5}
    assert queries.course(database, "e", 5, since=clock.now + 600) == []
