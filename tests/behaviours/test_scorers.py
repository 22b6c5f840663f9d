"""Loading a scorer by its spec, third parties' too, and the check of what every scorer returns."""

import subprocess
import sys

import numpy as np
import pytest

from behaviours import CheckedScorer, ProfanityScorer, ScorerError, ToxicityScorer, checked, load_scorer

PLUGIN = """
import numpy as np


class Shouting:
    name = "shouting"
    version = "2.1"
    threshold = 0.5

    def score(self, texts):
        return [sum(c.isupper() for c in text) / max(1, len(text)) for text in texts]


def made():
    return Shouting()


def broken():
    raise RuntimeError("no weights")


nothing = 5
"""
POINTS = """
[excise.scorers]
shouting = shouting_scorer:Shouting
made = shouting_scorer:made
broken = shouting_scorer:broken
number = shouting_scorer:nothing
gone = shouting_scorer:Gone
absent = no_such_module_here:Scorer
profanity = shouting_scorer:Shouting
"""


class Scorer:
    """A scorer that returns whatever the test says."""

    name = "odd"
    version = "1"
    threshold = 0.5

    def __init__(self, returned, **changes):
        self.returned = returned
        self.__dict__.update(changes)

    def score(self, texts):
        return self.returned


def install(folder, name, points, module=None):
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)
    if module:
        (folder / "shouting_scorer.py").write_text(module)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    install(tmp_path, "shouting", POINTS, PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("shouting_scorer", None)


@pytest.mark.parametrize("name", ["shouting", "made"])
def test_a_class_or_a_factory_of_a_third_party_is_found_by_its_name(plugin, name):
    scorer = load_scorer(name)
    assert isinstance(scorer, ToxicityScorer)
    assert (scorer.name, scorer.version, scorer.threshold) == ("shouting", "2.1", 0.5)
    scores = scorer.score(["ABCD", "abcd", "abCD"])
    assert scores.dtype == np.float64
    assert scores.tolist() == [1.0, 0.0, 0.5]


def test_another_process_finds_it_by_the_same_name(plugin):
    program = "import sys, behaviours; print(behaviours.load_scorer(sys.argv[1]).score(['AB', 'ab']).tolist())"
    environment = {"PYTHONPATH": f"{plugin}:."}
    run = subprocess.run(
        [sys.executable, "-c", program, "shouting"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert run.stdout.strip() == "[1.0, 0.0]", run.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "'broken' of the package 'shouting' could not be made: RuntimeError: no weights"),
        ("number", "'number' of the package 'shouting' could not be made: TypeError"),
        ("gone", "'gone' of the package 'shouting' could not be made: AttributeError"),
        ("absent", "'absent' of the package 'shouting' could not be made: ModuleNotFoundError"),
    ],
)
def test_a_third_party_that_fails_is_named(plugin, name, message):
    with pytest.raises(ScorerError, match=message):
        load_scorer(name)


def test_a_built_in_name_cannot_be_taken_over(plugin):
    assert load_scorer("profanity").name == ProfanityScorer.name


def test_two_packages_under_one_name_are_refused(plugin):
    install(plugin, "louder", "[excise.scorers]\nshouting = shouting_scorer:Shouting\n")
    with pytest.raises(ScorerError, match="'shouting' is registered by louder and shouting; uninstall one"):
        load_scorer("shouting")


def test_an_unknown_scorer_is_refused_with_those_that_exist(plugin):
    expected = r"no scorer 'nice'; there is: profanity, .*shouting, moderations:URL, hf:MODEL\[@LABEL\]$"
    with pytest.raises(ScorerError, match=expected):
        load_scorer("nice")


@pytest.mark.parametrize("spec", ["perspective", "perspective:https://host"])
def test_perspective_says_that_it_closes_and_what_takes_its_place(spec):
    with pytest.raises(ScorerError, match=r"closes on 2026-12-31; use hf:MODEL .*, moderations:URL or profanity"):
        load_scorer(spec)


@pytest.mark.parametrize("spec", ["hf:", "moderations:", "profanity:x", ""])
def test_a_spec_without_its_half_is_refused(spec):
    with pytest.raises(ScorerError):
        load_scorer(spec)


def test_heavy_libraries_are_imported_only_when_asked_for():
    program = (
        "import sys, behaviours; behaviours.load_scorer; "
        "print(sorted({'torch', 'transformers', 'httpx', 'sklearn'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "[]", run.stderr


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([0.5], r"shape \(1,\) for 2 texts"),
        ([[0.5, 0.5]], r"shape \(1, 2\) for 2 texts"),
        ([[0.5], [0.5, 0.1]], "returned no array of numbers"),
        (0.5, r"shape \(\) for 2 texts"),
        ([0.5, float("nan")], "nan for text 2 of 2"),
        ([float("inf"), 0.5], "inf for text 1 of 2"),
        ([0.5, 1.5], "1.5 for text 2 of 2; .* from 0 to 1"),
        ([-0.1, 0.5], "-0.1 for text 1 of 2"),
        (["yes", "no"], "returned no array of numbers"),
        (None, "returned"),
    ],
)
def test_what_a_scorer_returns_is_checked_and_the_scorer_named(returned, message):
    with pytest.raises(ScorerError, match=f"'odd'.*{message}"):
        checked(Scorer(returned)).score(["a", "b"])


def test_rounding_over_the_edge_is_brought_back():
    assert checked(Scorer([1.0000001, -1e-9])).score(["a", "b"]).tolist() == [1.0, 0.0]


def test_a_scorer_is_not_asked_about_nothing():
    assert checked(Scorer(None)).score([]).shape == (0,)


def test_checking_twice_is_checking_once():
    once = checked(Scorer([0.5]))
    assert isinstance(once, CheckedScorer)
    assert checked(once) is once


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name is ''"),
        ({"name": 5}, "name is 5"),
        ({"version": None}, "version is None"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"threshold": "high"}, "threshold is 'high'"),
        ({"score": None}, "score is None"),
    ],
)
def test_a_scorer_that_does_not_say_what_it_is_is_refused(changes, message):
    with pytest.raises(ScorerError, match=message):
        checked(Scorer([0.5], **changes))


def test_something_that_is_no_scorer_is_refused():
    with pytest.raises(ScorerError, match="of type object, has no name, version, threshold, score"):
        checked(object())
