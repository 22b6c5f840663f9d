from __future__ import annotations

import pytest

from service.experiments.experiment import Guardrail, Variant
from service.experiments.report.decision import report
from service.experiments.report.guardrails import crossed
from tests.service.experiments.report.tallies import LATER, experiment, ramped, tally, totals

BASE = totals(5_000, 100, repetitive=50, refusals=500, errors=10, length=80, seconds=0.5, coherence=-1.0, feedback=0.4)


def bounded(metric, direction="increase", margin=0.02):
    return experiment(guardrails=(Guardrail(metric, direction, margin),))


@pytest.mark.parametrize(
    ("guardrail", "bad"),
    [
        (Guardrail("toxicity", "increase", 0.02), totals(5_000, 400)),
        (Guardrail("repetition", "increase", 0.02), totals(5_000, repetitive=400)),
        (Guardrail("refusal", "decrease", 0.02), totals(5_000, refusals=100)),
        (Guardrail("error", "increase", 0.02), totals(4_500, errors=510)),
        (Guardrail("length", "decrease", 0.1), totals(5_000, length=60)),
        (Guardrail("length", "increase", 0.1), totals(5_000, length=100)),
        (Guardrail("latency_p95", "increase", 0.2), totals(5_000, seconds=2.0)),
        (Guardrail("latency_p95", "decrease", 0.2), totals(5_000, seconds=0.1)),
        (Guardrail("coherence", "decrease", 0.5), totals(5_000, coherence=-1.8)),
        (Guardrail("coherence", "increase", 0.5), totals(5_000, coherence=-0.3)),
        (Guardrail("feedback", "decrease", 0.1), totals(5_000, feedback=0.2)),
    ],
    ids=lambda value: f"{value.metric} {value.direction}" if isinstance(value, Guardrail) else "",
)
def test_evidence_past_the_margin_crosses_a_guardrail(guardrail, bad):
    one, tallies = experiment(guardrails=(guardrail,)), [tally("base", BASE), tally("detox", bad)]
    crossing = crossed(one, tallies)
    assert crossing is not None and (crossing.variant, crossing.guardrail) == ("detox", guardrail)
    assert "detox" in crossing.why
    (bound,) = report(one, tallies, LATER)["guardrails"]
    assert bound["crossed"] and bound["why"] == crossing.why
    assert "crossed the guardrail" in report(one, tallies, LATER)["why"]


@pytest.mark.parametrize(
    "metric", ["toxicity", "repetition", "refusal", "error", "length", "latency_p95", "coherence", "feedback"]
)
@pytest.mark.parametrize("direction", ["increase", "decrease"])
def test_what_is_as_the_control_crosses_nothing(metric, direction):
    tallies = [tally("base", BASE), tally("detox", BASE)]
    assert crossed(bounded(metric, direction), tallies) is None
    assert crossed(bounded(metric, direction), []) is None
    assert crossed(bounded(metric, direction), tallies[:1]) is None
    assert crossed(bounded(metric, direction), tallies[1:]) is None


def test_a_difference_within_the_margin_is_allowed_however_sure():
    tallies = [tally("base", totals(50_000, 500)), tally("detox", totals(50_000, 1_000))]
    assert crossed(bounded("toxicity", margin=0.02), tallies) is None
    assert crossed(bounded("toxicity", margin=0.0), tallies) is not None


def test_the_other_direction_is_no_crossing():
    tallies = [tally("base", totals(5_000, 400)), tally("detox", totals(5_000, 10))]
    assert crossed(bounded("toxicity", "increase"), tallies) is None
    assert crossed(bounded("toxicity", "decrease"), tallies) is not None


def test_without_guardrails_nothing_is_crossed():
    assert crossed(experiment(), [tally("base", BASE), tally("detox", totals(5_000, 5_000))]) is None


def test_evidence_is_gathered_within_epochs():
    # As in Simpson's trap: pooled, detox would be far over the margin.
    one = ramped(bounded("toxicity"), {"base": 0.1, "detox": 0.9})
    tallies = [
        tally("base", totals(9_000, 90)),
        tally("detox", totals(9_000, 90)),
        tally("base", totals(1_000, 300), epoch=1),
        tally("detox", totals(9_000, 2_700), epoch=1),
    ]
    assert crossed(one, tallies) is None


def test_the_quick_answer_and_the_report_agree_where_epochs_contradict_each_other():
    one = ramped(bounded("toxicity", margin=0.0), {"base": 0.5, "detox": 0.5})
    tallies = [
        tally("base", totals(2_000, 20)),
        tally("detox", totals(2_000, 600)),
        tally("base", totals(2_000, 700), epoch=1),
        tally("detox", totals(2_000, 20), epoch=1),
    ]
    (bound,) = report(one, tallies, LATER)["guardrails"]
    assert bound["value"] < 0 and not bound["crossed"]
    assert crossed(one, tallies) is None


def test_latency_is_compared_in_the_epoch_in_force():
    slow = [tally("base", BASE), tally("detox", totals(5_000, seconds=5.0))]
    one = bounded("latency_p95", margin=0.2)
    assert crossed(one, slow) is not None
    later = ramped(one, {"base": 0.5, "detox": 0.5})
    now = [tally("base", BASE, epoch=1), tally("detox", BASE, epoch=1)]
    assert crossed(later, [*slow, *now]) is None


def test_mirrored_variants_are_guarded_for_what_they_say_not_for_their_speed():
    one = experiment(
        Variant("base", "base", 1.0),
        Variant("shadow", "detox@1", mirror=0.5),
        guardrails=(Guardrail("latency_p95"), Guardrail("error"), Guardrail("repetition", margin=0.02)),
    )
    bad = totals(2_000, repetitive=900, errors=900, seconds=60.0)
    bounds = report(one, [tally("base", BASE), tally("shadow", bad)], LATER)["guardrails"]
    assert [(bound["metric"], bound["variant"]) for bound in bounds] == [("repetition", "shadow")]
    assert crossed(one, [tally("base", BASE), tally("shadow", bad)]).guardrail.metric == "repetition"


def test_the_level_is_shared_among_guardrails_and_variants():
    one = experiment(
        *(Variant(name, "base", 1.0) for name in ("base", "a", "b")),
        guardrails=(Guardrail("toxicity"), Guardrail("error")),
    )
    bounds = report(one, [], LATER)["guardrails"]
    assert len(bounds) == 4
    assert {bound["needed"] for bound in bounds} == {80.0}
    assert all(
        bound["value"] is None and not bound["crossed"] and "nothing is known" in bound["why"] for bound in bounds
    )


def test_a_variant_that_breaks_for_users_who_were_counted_before_is_noticed():
    fine, broken = totals(80), totals(80, errors=78)
    tallies = [tally("base", fine, every=totals(160)), tally("detox", fine, every=broken)]
    crossing = crossed(bounded("error", margin=0.05), tallies)
    assert crossing is not None and crossing.variant == "detox"


def test_longer_responses_are_noticed_though_their_length_drifts_while_the_weights_change():
    nights, days = {"base": 0.99, "detox": 0.01}, {"base": 0.5, "detox": 0.5}
    one = ramped(experiment(guardrails=(Guardrail("length", "increase", 0.2),)), nights, days)
    tallies = [
        tally("base", totals(99_000, length=200), epoch=1),
        tally("detox", totals(1_000, length=280), epoch=1),
        tally("base", totals(5_000, length=50), epoch=2),
        tally("detox", totals(5_000, length=70), epoch=2),
    ]
    (bound,) = report(one, tallies, LATER)["guardrails"]
    assert bound["value"] == pytest.approx(0.4, abs=0.01)
    assert bound["crossed"]
