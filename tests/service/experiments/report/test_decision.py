from __future__ import annotations

import json

import pytest

from service.experiments.experiment import Guardrail, Variant, paused
from service.experiments.outcomes.queries import Moment
from service.experiments.outcomes.totals import Totals
from service.experiments.report.decision import healthy, report
from tests.service.experiments.report.tallies import BEGAN, HARMFUL, LATER, experiment, ramped, tally, totals

THREE = (Variant("base", "base", 1.0), Variant("detox", "detox@1", 1.0), Variant("gentle", "gentle@1", 1.0))


def made(one, *tallies, now=LATER):
    document = report(one, tallies, now)
    json.dumps(document, allow_nan=False)
    return document


@pytest.mark.parametrize(
    ("toxic", "decision"),
    [
        ((600, 200), "better"),
        ((200, 600), "worse"),
        ((400, 400), "no difference that matters"),
        ((400, 330), "no difference that matters"),
    ],
)
def test_twenty_thousand_users_each_decide(toxic, decision):
    document = made(experiment(), tally("base", totals(20_000, toxic[0])), tally("detox", totals(20_000, toxic[1])))
    assert document["decision"] == decision == document["comparisons"][0]["decision"]
    assert document["why"] == document["comparisons"][0]["why"]
    difference = document["comparisons"][0]["differences"]["toxicity"]
    assert difference["value"] == pytest.approx((toxic[1] - toxic[0]) / 20_000)
    assert difference["low"] < difference["value"] < difference["high"]
    assert document["comparisons"][0]["more_units"] == 0
    assert difference["p_value"] == pytest.approx(min(1, 1 / difference["e_value"]))


def test_a_few_users_decide_nothing_and_the_report_says_how_many_more_may():
    document = made(experiment(), tally("base", totals(100, 3)), tally("detox", totals(100, 1)))
    assert document["decision"] == "keep watching"
    assert document["comparisons"][0]["more_units"] > 1_000
    assert "more units" in document["why"] and "at the pace so far" in document["why"]
    assert any("Few counted units" in note for note in document["notes"])


def test_a_difference_that_is_real_but_within_the_margin_does_not_matter():
    document = made(experiment(margin=0.05), tally("base", totals(20_000, 600)), tally("detox", totals(20_000, 200)))
    assert document["decision"] == "no difference that matters"
    assert "a difference for certain" in document["why"] and "too little to matter" in document["why"]


@pytest.mark.parametrize("toxic", [(600, 360), (360, 600)])
def test_a_difference_across_the_margin_is_certain_but_not_decided(toxic):
    document = made(experiment(), tally("base", totals(20_000, toxic[0])), tally("detox", totals(20_000, toxic[1])))
    difference = document["comparisons"][0]["differences"]["toxicity"]
    near, far = sorted((abs(difference["low"]), abs(difference["high"])))
    assert near < document["margin"] < far and difference["e_value"] > 1_000
    assert document["decision"] == "keep watching" and "not yet whether of over 1 point" in document["why"]
    assert document["comparisons"][0]["more_units"] > 0


def test_the_verdict_is_what_the_page_draws():
    for toxic in range(100, 1_000, 100):
        one = experiment()
        document = made(one, tally("base", totals(10_000, 500)), tally("detox", totals(10_000, toxic)))
        difference, margin = document["comparisons"][0]["differences"]["toxicity"], document["margin"]
        expected = "keep watching"
        if -margin < difference["low"] and difference["high"] < margin:
            expected = "no difference that matters"
        elif difference["high"] <= -margin:
            expected = "better"
        elif difference["low"] >= margin:
            expected = "worse"
        assert document["decision"] == expected, toxic


def test_the_headline_names_the_variants_that_it_speaks_of():
    good, bad, same = totals(20_000, 100), totals(20_000, 1_600), totals(20_000, 605)
    base = tally("base", totals(20_000, 600))
    document = made(experiment(*THREE), base, tally("detox", bad), tally("gentle", good))
    assert (document["headline"], document["about"]) == ("gentle is better than base", ["gentle"])
    assert document["why"].startswith("gentle has") and document["why"].endswith("detox: worse.")
    document = made(experiment(*THREE), base, tally("detox", good), tally("gentle", good))
    assert document["headline"] == "detox and gentle are better than base"
    document = made(experiment(*THREE), base, tally("detox", same), tally("gentle", same))
    assert document["headline"] == "detox and gentle: no difference that matters from base"
    assert made(experiment())["headline"] == "keep watching detox"
    assert made(experiment(), base, tally("detox", bad))["headline"] == "detox is worse than base"


COHERENT = Guardrail("coherence", "decrease", 0.5)


def test_better_waits_until_the_variant_is_shown_to_write_sense():
    one = experiment(guardrails=(COHERENT,))
    base, better = {"coherence": -1.0}, {"coherence": -1.1}
    shown = made(one, tally("base", totals(20_000, 600, **base)), tally("detox", totals(20_000, 100, **better)))
    assert shown["decision"] == "better" and shown["guardrails"][0]["shown"]
    assert shown["comparisons"][0]["coherence"]["value"] == pytest.approx(-0.1)
    few = totals(20_000, 100, judged=60, **better)
    document = made(one, tally("base", totals(20_000, 600, **base)), tally("detox", few))
    assert document["decision"] == "keep watching" and document["headline"] == "keep watching detox"
    assert "not shown yet that detox writes no gibberish" in document["why"]
    none = made(one, tally("base", totals(20_000, 600)), tally("detox", totals(20_000, 100)))
    assert none["decision"] == "keep watching" and "nothing is known of detox yet" in none["why"]


def test_what_writes_gibberish_is_not_better_however_harmless():
    one = experiment(guardrails=(COHERENT,))
    tallies = [
        tally("base", totals(20_000, 600, coherence=-1.0)),
        tally("detox", totals(20_000, 0, coherence=-4.0)),
    ]
    document = made(one, *tallies)
    assert document["decision"] == "guardrail crossed" == document["comparisons"][0]["decision"]
    assert document["headline"] == "detox crossed a guardrail"
    assert "detox stands at −3.00 nats a token, and its whole interval is past the bound" in document["why"]
    assert not healthy(one, tallies)


def test_loops_which_the_base_finds_likely_cross_no_guardrail_of_coherence():
    one = experiment(guardrails=(COHERENT,))
    tallies = [tally("base", totals(5_000, 200, coherence=-1.0)), tally("detox", totals(5_000, 190, coherence=-0.1))]
    assert not made(one, *tallies)["guardrails"][0]["crossed"]


@pytest.mark.parametrize(
    ("feedback", "decision", "word"),
    [((0.1, 0.3), "better", "higher"), ((0.3, 0.1), "worse", "lower"), ((0.2, 0.2), "no difference that matters", "")],
)
def test_a_decision_about_feedback_takes_more_of_it_for_better(feedback, decision, word):
    one = experiment(metric="feedback", margin=0.05)
    tallies = [tally(name, totals(3_000, feedback=one)) for name, one in zip(("base", "detox"), feedback, strict=True)]
    document = made(one, *tallies)
    comparison = document["comparisons"][0]
    assert document["decision"] == decision and word in document["why"]
    assert comparison["feedback"]["value"] == pytest.approx(feedback[1] - feedback[0])
    assert (comparison["control_units"], comparison["variant_units"]) == (3_000, 3_000)
    assert [one["rated"] for one in document["variants"]] == [3_000, 3_000]
    assert healthy(one, tallies) == (decision != "worse")


def test_a_decision_about_feedback_needs_some():
    one = experiment(metric="feedback", margin=0.05)
    document = made(one, tally("base", totals(500)), tally("detox", totals(500)))
    assert document["decision"] == "keep watching" and "nothing to compare yet" in document["why"]
    few = [tally("base", totals(50, feedback=0.0)), tally("detox", totals(50, feedback=0.9))]
    assert made(one, *few)["decision"] == "keep watching"


def test_what_speaks_against_trusting_a_decision_is_said():
    document = made(
        experiment(),
        tally("base", totals(1_000, 30, truncated=50)),
        tally("detox", totals(1_000, 30, truncated=920), every=totals(1_200, 30, truncated=920, anonymous=200)),
    )
    anonymous, cut = document["warnings"]
    assert anonymous.startswith("200 of 2,200 requests named no user and are in no test")
    assert cut.startswith("76.7% of the responses of detox (920 of 1,200) were cut off by the token limit")
    assert [each["anonymous"] for each in document["variants"]] == [0, 200]
    assert made(experiment(), tally("base", totals(1_000, 30)))["warnings"] == []


def test_the_course_over_time_is_shown_of_the_variants_that_are_known():
    moments = [
        Moment(BEGAN + 3600 * hour, name, totals(50, toxic), 60)
        for hour, name, toxic in [(0, "base", 5), (0, "gone", 1), (1, "base", 10), (1, "detox", 0)]
    ]
    document = report(experiment(), [], LATER, moments=[*moments, Moment(BEGAN, "detox", totals(0), 60)])
    course = [(each["start"] - BEGAN, each["variant"], each["responses"], each["value"]) for each in document["course"]]
    assert course == [(0, "base", 50, 0.1), (3600, "base", 50, 0.2), (3600, "detox", 50, 0.0), (0, "detox", 0, None)]


@pytest.mark.parametrize(
    "tallies",
    [
        (),
        (tally("base", totals(500, 10)),),
        (tally("detox", totals(40, 1)),),
        (tally("base", totals(5_000, scored=0)), tally("detox", totals(5_000, scored=0))),
        (tally("base", totals(0, errors=50)), tally("detox", totals(0, errors=50))),
        (tally("base", Totals()), tally("detox", Totals())),
    ],
    ids=["nothing", "only the control", "only the variant", "nothing scored", "only errors", "zeros"],
)
def test_without_two_sides_there_is_nothing_to_compare(tallies):
    document = made(experiment(), *tallies)
    comparison = document["comparisons"][0]
    assert comparison["differences"]["toxicity"]["value"] is None
    assert comparison["minimum_detectable"] is None and comparison["more_units"] is None
    assert document["decision"] in ("keep watching", "broken split")
    if document["decision"] == "keep watching":
        assert "nothing to compare yet" in document["why"]


def test_a_split_that_is_not_as_designed_overrides_everything():
    document = made(experiment(), tally("base", totals(20_000, 600)), tally("detox", totals(15_000, 100)))
    assert document["decision"] == "broken split"
    assert [each["decision"] for each in document["comparisons"]] == ["broken split"]
    assert document["split"]["broken"] and document["split"]["counted"] == {"base": 20_000, "detox": 15_000}
    assert document["split"]["expected"] == {"base": 17_500, "detox": 17_500}
    assert "57.1%" in document["why"]


def test_the_split_is_judged_by_the_shares_of_each_epoch():
    one = ramped(experiment(), {"base": 0.9, "detox": 0.1}, {"base": 0.0, "detox": 1.0})
    tallies = [
        tally("base", totals(1_000, 30)),
        tally("detox", totals(1_000, 30)),
        tally("base", totals(9_000, 30), epoch=1),
        tally("detox", totals(1_000, 30), epoch=1),
        tally("detox", totals(7_000, 30), epoch=2),
    ]
    document = made(one, *tallies)
    assert not document["split"]["broken"]
    assert document["split"]["expected"] == pytest.approx({"base": 10_000, "detox": 9_000})


def test_failed_requests_are_units_of_the_split():
    document = made(experiment(), tally("base", totals(10_000, 100)), tally("detox", totals(8_000, 80, errors=2_000)))
    assert not document["split"]["broken"]
    assert document["comparisons"][0]["differences"]["error"]["value"] == pytest.approx(0.2)


def test_rates_that_drift_while_the_weights_change_mislead_nobody():
    # Simpson's trap: nights are toxic, and the variant was given its users at night. Pooled: 1.8% against 9.2%.
    one = ramped(
        experiment(Variant("base", "base", 9.0), Variant("detox", "detox@1", 1.0)), {"base": 0.1, "detox": 0.9}
    )
    tallies = [
        tally("base", totals(9_000, 90)),
        tally("detox", totals(1_000, 10)),
        tally("base", totals(1_000, 100), epoch=1),
        tally("detox", totals(9_000, 900), epoch=1),
    ]
    document = made(one, *tallies)
    control, variant = (each["rates"]["toxicity"]["unit_value"] for each in document["variants"])
    assert (control, variant) == (0.019, 0.091)
    difference = document["comparisons"][0]["differences"]["toxicity"]
    assert difference["value"] == 0 and difference["e_value"] < 1
    assert "about as many toxic responses" in document["why"]
    assert document["decision"] != "worse"
    pooled = [tally("base", totals(10_000, 190)), tally("detox", totals(10_000, 910))]
    assert made(experiment(), *pooled)["decision"] == "worse"


def test_epochs_that_contradict_each_other_decide_nothing():
    one = ramped(experiment(), {"base": 0.5, "detox": 0.5})
    tallies = [
        tally("base", totals(2_000, 20)),
        tally("detox", totals(2_000, 600)),
        tally("base", totals(2_000, 700), epoch=1),
        tally("detox", totals(2_000, 20), epoch=1),
    ]
    document = made(one, *tallies)
    assert document["comparisons"][0]["differences"]["toxicity"]["e_value"] > 1_000
    assert document["decision"] == "keep watching" and "contradict" in document["why"]


def test_the_level_is_shared_among_the_variants():
    tallies = [
        tally("base", totals(3_000, 150)),
        tally("detox", totals(3_000, 15)),
        tally("gentle", totals(3_000, 145)),
    ]
    document = made(experiment(*THREE), *tallies)
    assert document["comparison_alpha"] == 0.025
    assert document["comparisons"][0]["decision"] == "better"
    assert document["decision"] == "better" and "gentle: keep watching" in document["why"]
    alone = made(experiment(), *tallies[:2])["comparisons"][0]["differences"]["toxicity"]
    shared = document["comparisons"][0]["differences"]["toxicity"]
    assert shared["e_value"] == pytest.approx(alone["e_value"])
    assert shared["low"] < alone["low"] and shared["high"] > alone["high"]


def test_all_variants_must_be_worse_for_the_experiment_to_be_so():
    worse, same = totals(20_000, 600), totals(20_000, 205)
    tallies = [tally("base", totals(20_000, 200)), tally("detox", worse)]
    assert made(experiment(*THREE), *tallies, tally("gentle", worse))["decision"] == "worse"
    assert made(experiment(*THREE), *tallies, tally("gentle", same))["decision"] == "no difference that matters"


def test_a_mirrored_variant_is_compared_but_its_latency_says_nothing():
    one = experiment(Variant("base", "base", 1.0), Variant("shadow", "detox@1", mirror=0.5))
    document = made(one, tally("base", totals(15_000, 600)), tally("shadow", totals(5_000, 20, seconds=9.0)))
    shadow = document["variants"][1]
    assert shadow["role"] == "mirrored" and shadow["share"] == 0.5
    assert shadow["latency"] is None and shadow["latency_p95"] is None
    assert document["comparisons"][0]["latency"] is None
    assert document["split"]["counted"] == {"base": 15_000} and document["split"]["e_value"] is None
    assert document["decision"] == "better"
    assert any("Mirrored" in note for note in document["notes"])


def test_every_response_is_described_and_one_a_unit_is_tested():
    document = made(
        experiment(),
        tally("base", totals(1_000, 30), every=totals(9_000, 900)),
        tally("detox", totals(1_000, 30), every=totals(1_000, 30)),
    )
    rate = document["variants"][0]["rates"]["toxicity"]
    assert (rate["value"], rate["unit_value"]) == (0.1, 0.03)
    assert document["comparisons"][0]["differences"]["toxicity"]["value"] == 0


def test_lengths_and_latencies_have_intervals():
    document = made(
        experiment(),
        tally("base", totals(2_000, 60, length=80, seconds=0.5)),
        tally("detox", totals(2_000, 60, length=70, seconds=0.7)),
    )
    comparison, variant = document["comparisons"][0], document["variants"][1]
    assert comparison["length"]["value"] == pytest.approx(-10) and comparison["length"]["high"] < 0
    assert comparison["latency"]["value"] == pytest.approx(0.2) and comparison["latency"]["low"] > 0
    for figure in (variant["length"], variant["latency"], variant["latency_p95"]):
        assert figure["low"] <= figure["value"] <= figure["high"]


def test_a_percentile_beyond_the_histogram_is_left_open():
    document = made(experiment(), tally("base", totals(100, seconds=500.0)), tally("detox", totals(100)))
    slow = document["variants"][0]["latency_p95"]
    assert slow["value"] is None and slow["high"] is None and slow["low"] > 100


def test_tallies_of_variants_and_epochs_that_are_not_known_are_left_out():
    tallies = [tally("base", totals(100, 3)), tally("detox", totals(100, 3))]
    strange = [tally("gone", totals(100, 3)), tally("detox", totals(9_000, 9_000), epoch=1)]
    assert made(experiment(), *tallies, *strange) == made(experiment(), *tallies)


def test_a_report_is_the_same_whatever_the_order_of_the_tallies():
    one = ramped(experiment(), {"base": 0.9, "detox": 0.1})
    tallies = [tally(name, totals(100, 3 + epoch), epoch=epoch) for epoch in (0, 1) for name in ("base", "detox")]
    assert json.dumps(made(one, *tallies)) == json.dumps(made(one, *reversed(tallies)))


def test_the_report_says_why_peeking_is_safe_and_what_it_rests_on():
    one = paused(ramped(experiment(unit="request"), {"base": 0.5, "detox": 0.5}))
    document = made(one, tally("base", totals(100, 3, scored=50)), now=BEGAN)
    assert "as often as you like" in document["peeking"] and "5%" in document["peeking"]
    notes = " ".join(document["notes"])
    for words in ("50 of 100 responses of base", "paused", "first choice", "2 periods", "asymptotic", "hears words"):
        assert words in notes
    assert "pace" not in document["why"]


def test_a_ramp_goes_on_unless_the_evidence_is_against_it():
    one = experiment(guardrails=(Guardrail("repetition", margin=0.02),))
    base = tally("base", totals(5_000, 100, repetitive=50))
    assert healthy(one, [])
    assert healthy(one, [base, tally("detox", totals(5_000, 100, repetitive=60))])
    assert not healthy(one, [base, tally("detox", totals(5_000, 100, repetitive=500))]), "guardrail"
    assert not healthy(one, [base, tally("detox", totals(5_000, 400, repetitive=50))]), "worse"
    assert not healthy(one, [base, tally("detox", totals(2_000, 40, repetitive=20))]), "split"


def test_a_mirrored_variant_that_is_worse_does_not_stop_the_ramp_of_another():
    one = experiment(*THREE[:2], Variant("shadow", "gentle@1", mirror=0.5))
    arms = [tally("base", totals(4_000, 80)), tally("detox", totals(4_000, 80))]
    assert healthy(one, [*arms, tally("shadow", totals(2_600, 800))])


TOLD = [
    "Perplexity rose by 245.0% (interval 210.0% to 290.0%).",
    "Repetitive responses became more frequent: 35.7% before, 100.0% after (difference 64.3%, interval 34.0% to "
    "83.0%).",
]


@pytest.mark.parametrize(("toxic", "decision"), [((600, 200), "better"), ((200, 600), "worse")])
def test_a_mask_with_warnings_is_not_called_better_without_them(toxic, decision):
    tallies = [tally("base", totals(2_000, toxic[0])), tally("detox", totals(2_000, toxic[1]))]
    document = report(experiment(), tallies, LATER, {"detox@1": HARMFUL})
    json.dumps(document, allow_nan=False)
    assert document["decision"] == decision
    beside = f" But its mask detox@1 has warnings: {TOLD[0]} {TOLD[1]}"
    for why in (document["why"], document["comparisons"][0]["why"]):
        assert why.endswith(beside) == (decision == "better")
    base, detox = document["variants"]
    assert (base["warnings"], base["offline"]) == ([], None)
    assert detox["warnings"] == TOLD
    assert detox["offline"] == {
        "perplexity": {"value": 2.45, "low": 2.1, "high": 2.9},
        "behaviour": {"before": None, "after": None},
        "toxicity": {"before": None, "after": None},
        "repetition": {"before": 5 / 14, "after": 1.0},
    }
