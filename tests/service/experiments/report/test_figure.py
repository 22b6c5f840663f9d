from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import pytest
from matplotlib.image import imread

from service.experiments.experiment import Guardrail, Variant
from service.experiments.report import figure
from service.experiments.report.decision import report
from tests.service.experiments.report.tallies import LATER, experiment, tally, totals

HOSTILE = ("$\\frac{", "<script>alert(1)</script>", "名前\n\x1b[31m😀", "_x" * 300)


def some(*names, **more):
    arms = (Variant("base", "base", 1.0), *(Variant(name, "m@1", 1.0) for name in names))
    tallies = [tally(arm.name, totals(1_000, 30 - 5 * place)) for place, arm in enumerate(arms)]
    return report(experiment(*arms, **more), tallies, LATER)


def test_a_png_can_be_read_and_grows_with_the_variants():
    small, large = (imread(io.BytesIO(figure.png(some(*names)))) for names in (("detox",), ("a", "b", "c", "d")))
    assert small.shape[2] == 4 and small.shape[1] == large.shape[1]
    assert small.shape[0] < large.shape[0]
    assert small[..., 0].min() < 0.2 and small[0, 0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("metric", ["toxicity", "error"])
def test_an_experiment_without_data_can_be_drawn(metric):
    empty = report(experiment(metric=metric, guardrails=(Guardrail("length"),)), [], LATER)
    assert figure.png(empty).startswith(b"\x89PNG")
    assert b"<svg" in figure.svg(empty)


def test_hostile_names_are_drawn_as_they_are():
    ElementTree.fromstring(figure.svg(some(*HOSTILE)))


def test_light_and_dark_differ_and_load_nothing():
    light, dark = figure.svg(some("detox")), figure.svg(some("detox"), dark=True)
    assert light != dark
    for drawn in (light, dark):
        links = [
            value for node in ElementTree.fromstring(drawn).iter() for name, value in node.items() if "href" in name
        ]
        assert all(link.startswith("#") for link in links)


def test_several_threads_draw_the_same():
    document = some("detox")
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(figure.png, [document] * 4))) == 1


def test_a_variant_whose_mask_has_warnings_is_marked():
    tallies = [tally("base", totals(1_000, 30)), tally("detox", totals(1_000, 25))]
    plain, warned = (
        report(experiment(), tallies, LATER, {"detox@1": {"warnings": warnings}}) for warnings in ([], list(HOSTILE))
    )
    assert [figure._marks(each) for each in warned["variants"]] == ["", " (has warnings)"]
    assert figure.svg(plain) != figure.svg(warned)
    assert figure.png(warned).startswith(b"\x89PNG")


def test_a_decision_about_feedback_is_drawn():
    one = experiment(metric="feedback", margin=0.05)
    tallies = [tally("base", totals(900, feedback=-0.2)), tally("detox", totals(900, feedback=0.4))]
    document = report(one, tallies, LATER)
    assert document["decision"] == "better"
    assert figure.png(document).startswith(b"\x89PNG")
    assert b"feedback" in figure.svg(document) or figure.svg(document).count(b"<path") > 20


def test_the_dark_picture_is_the_light_one_in_other_colours():
    document = report(experiment(), [tally("base", totals(900, 30)), tally("detox", totals(900, 3))], LATER)
    light, dark = figure.svg(document), figure.svg(document, dark=True)
    assert len(light) == len(dark) and light != dark
    assert b"#222222" in light and b"#222222" not in dark and b"#e8e8e8" in dark
