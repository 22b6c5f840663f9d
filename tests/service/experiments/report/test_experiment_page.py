from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from service.experiments.experiment import Guardrail, Variant, stopped
from service.experiments.outcomes.queries import Moment
from service.experiments.report import chart, figure
from service.experiments.report.decision import report
from service.experiments.report.experiment_page import html
from tests.service.experiments.report.tallies import BEGAN, HARMFUL, LATER, experiment, tally, totals

DRAWN = figure.svg
VOID = {"meta", "img", "source", "br"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """No pictures: their own tests draw them."""
    monkeypatch.setattr(figure, "svg", lambda found: b"<svg/>")


class Reader(HTMLParser):
    """Checks that elements close in order; keeps tags, attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *each) for each in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def page(*names, guardrails=(), finish=None, toxic=(600, 200)):
    arms = (Variant("base", "base", 1.0), *(Variant(name, "detox@1", 1.0) for name in names))
    one = experiment(*arms, guardrails=guardrails)
    tallies = [tally(arm.name, totals(20_000, toxic[min(place, 1)])) for place, arm in enumerate(arms)]
    return html(report(finish(one) if finish else one, tallies, LATER))


def test_the_decision_comes_first_and_everything_has_its_place():
    read = Reader(page("detox", guardrails=(Guardrail("toxicity"),)))
    text = " ".join(" ".join(read.words).split())
    places = [
        text.index(words)
        for words in ("Detox is better than base", "fewer toxic", "as often as you like", "detox@1", "Every response")
    ]
    assert places == sorted(places)
    for words in ("Split", "Guardrails", "Good to know", "95th percentile", "e = ", "2025-10-09"):
        assert words in text
    assert read.tags.count("h1") == 1


def test_it_loads_nothing_and_runs_nothing(monkeypatch):
    monkeypatch.setattr(figure, "svg", DRAWN)
    text = page("detox")
    read = Reader(text)
    assert not {"script", "link", "iframe", "object", "form"} & set(read.tags)
    assert not [each for each in read.attributes if each[1].startswith("on")]
    for tag, name, value in read.attributes:
        if name in ("src", "srcset", "href"):
            assert value.startswith("data:image/svg+xml;base64,"), (tag, name)
    assert "@import" not in text and "url(" not in text
    assert "default-src 'none'" in text


def test_it_can_be_read_aloud():
    read = Reader(page("detox"))
    assert ("html", "lang", "en") in read.attributes
    assert [value for tag, name, value in read.attributes if (tag, name) == ("img", "alt") and value]
    assert read.tags.count("caption") == read.tags.count("table")
    assert {value for tag, name, value in read.attributes if (tag, name) == ("th", "scope")} == {"row", "col"}


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onload='x", "&lt;b&gt;", "</style>", "]]>"],
)
def test_hostile_names_are_only_words(name):
    plain, hostile = Reader(page("detox")), Reader(page(name))
    assert hostile.tags == plain.tags
    assert [each[:2] for each in hostile.attributes] == [each[:2] for each in plain.attributes]
    assert name in "".join(hostile.words)


def test_a_hostile_reason_and_experiment_are_only_words():
    bad = "</p><script>alert(1)</script>"
    text = page("detox", finish=lambda one: stopped(one, bad, winner="detox"))
    read = Reader(text)
    assert "script" not in read.tags
    assert bad in "".join(read.words) and "winner: detox" in "".join(read.words)


def test_a_page_is_made_from_the_json_alone():
    document = report(experiment(), [tally("base", totals(100, 3)), tally("detox", totals(100, 1))], LATER)
    assert html(json.loads(json.dumps(document))) == html(document)


def test_an_experiment_without_data_has_a_page():
    text = "".join(Reader(html(report(experiment(guardrails=(Guardrail("length"),)), [], LATER))).words)
    assert "Keep watching detox" in text and "There is nothing to check yet" in text


def test_what_was_measured_offline_and_warnings_have_their_place_and_are_only_words():
    bad = "</li></ul><script>alert(1)</script><b onclick='x'>"
    warned = {**HARMFUL, "warnings": [bad, "Loops."]}
    tallies = [tally("base", totals(2_000, 600)), tally("detox", totals(2_000, 200))]
    text = html(report(experiment(), tallies, LATER, {"detox@1": warned}))
    read = Reader(text)
    words = " ".join(" ".join(read.words).split())
    assert not {"script", "b"} & set(read.tags)
    assert f"detox (detox@1): {bad}" in words and f"But its mask detox@1 has warnings: {bad} Loops." in words
    assert words.index("detox (detox@1): Loops.") < words.index("Measured offline") < words.index("Every response")
    for phrase in ("+245.0% +210.0 to +290.0%", "35.7% → 100.0%", "repetitive responses, offline"):
        assert phrase in words, phrase
    assert "shows the behaviour" not in words and "toxic responses, offline" not in words
    assert ("ul", "class", "warned") in read.attributes


def test_without_masks_that_were_measured_nothing_is_said_of_it():
    body = page("detox").partition("<body>")[2]
    assert "Measured offline" not in body and ", offline" not in body and "warned" not in body


def test_the_chart_over_time_is_drawn_of_what_is_kept(monkeypatch):
    moments = [
        Moment(BEGAN + 3600 * hour, name, totals(50, 5 * hour), 60)
        for hour in range(4)
        for name in ("base", "<b>$x$</b>")
    ]
    arms = Variant("base", "base", 1.0), Variant("<b>$x$</b>", "detox@1", 1.0)
    document = report(experiment(*arms), [], LATER, moments=moments)
    read = Reader(html(document))
    words = " ".join(" ".join(read.words).split())
    assert "Over time Toxic responses, % of each variant over time, over every response." in words
    assert read.tags.count("img") == 2 and "b" not in read.tags
    assert chart.svg(document).count(b'<g id="line2d_') >= 2
    assert b"#222222" in chart.svg(document) and b"#222222" not in figure.darkened(chart.svg(document))
    assert "Over time" not in html(report(experiment(*arms), [], LATER))
