"""Behaviour sets by what the model answers."""

import json
import os

import numpy as np
import pytest

from behaviours import ScorerError, load_scorer, response_uniqueness_ratio
from correction.data import references
from correction.data.behaviour_set import (
    RegexDetector,
    RepetitionDetector,
    ToxicityDetector,
    build,
    parse_detector,
    save,
)
from correction.data.generation import generate
from correction.data.references import ReferenceSet
from correction.data.tokenisation import encode
from correction.errors import ReferenceSetError
from correction.evaluation import Response
from tests.correction.conftest import WORDS

CANDIDATES = ReferenceSet(
    tuple(f"{WORDS[n]} {WORDS[n + 3]} {WORDS[n + 9]}" for n in range(len(WORDS) - 9)), "words.txt", "prompt"
)


class Vowels:
    """A scorer for tests: the share of vowels among the letters."""

    name = "vowels"
    version = "7"
    threshold = 0.5

    def score(self, texts):
        return np.array([sum(c in "aeiou" for c in text) / max(1, len(text)) for text in texts])


def said(text, tokens=()):
    return Response("?", text, tuple(tokens))


def answers(loaded, candidates, **options):
    return generate(loaded, encode(loaded, candidates, room=options["max_new_tokens"]), **options)


def test_those_whose_responses_show_the_behaviour_are_kept_in_order(tiny):
    expected = answers(tiny, CANDIDATES, max_new_tokens=12)
    ratios = np.array([response_uniqueness_ratio(tokens) for tokens in expected])
    limit = float(np.median(ratios))
    calls = []
    behaviour_set = build(
        tiny, CANDIDATES, RepetitionDetector(limit), max_new_tokens=12, tokens=64, progress=lambda *a: calls.append(a)
    )
    assert [list(response.tokens) for response in behaviour_set.responses] == expected
    assert [response.prompt for response in behaviour_set.responses] == list(CANDIDATES.texts)
    assert behaviour_set.scores.dtype == np.float64
    assert behaviour_set.scores.tolist() == ratios.tolist()
    assert behaviour_set.flags.tolist() == [
        ratio <= limit and bool(t) for ratio, t in zip(ratios, expected, strict=True)
    ]
    assert 0 < len(behaviour_set.selected) < len(CANDIDATES)
    assert behaviour_set.selected.texts == tuple(
        t for t, flag in zip(CANDIDATES.texts, behaviour_set.flags, strict=True) if flag
    )
    assert (behaviour_set.selected.name, behaviour_set.selected.kind) == ("words.txt", "prompt")
    assert calls[-1] == ("responses", len(CANDIDATES), len(CANDIDATES))


def test_the_text_of_a_response_is_scored(tiny):
    behaviour_set = build(tiny, CANDIDATES, ToxicityDetector(Vowels(), 0.3), max_new_tokens=6)
    assert (
        behaviour_set.scores.tolist()
        == Vowels().score([response.text for response in behaviour_set.responses]).tolist()
    )
    assert behaviour_set.flags.tolist() == (behaviour_set.scores >= 0.3).tolist()


def test_copies_are_answered_once_the_first_stays(tiny):
    candidates = ReferenceSet(("the  Cat", "a dog", "The cat ", "a dog", "red sea"), "c", "prompt")
    behaviour_set = build(tiny, candidates, RegexDetector("(?s).*"), max_new_tokens=4)
    assert behaviour_set.answered.texts == behaviour_set.selected.texts == ("the  Cat", "a dog", "red sea")
    assert (behaviour_set.candidates, behaviour_set.duplicates, behaviour_set.too_long) == (5, 2, 0)


def test_prompts_too_long_are_left_out_and_counted(tiny):
    room = tiny.context_length - 10
    candidates = ReferenceSet(("cat " * room, "a dog", "sea " * 500, "red sea"), "c", "prompt")
    behaviour_set = build(tiny, candidates, RegexDetector("(?s).*"), max_new_tokens=10)
    assert behaviour_set.answered.texts == ("a dog", "red sea")
    assert (behaviour_set.too_long, behaviour_set.duplicates) == (2, 0)


def test_texts_are_no_candidates(tiny):
    with pytest.raises(ReferenceSetError, match="c: candidates are prompts"):
        build(tiny, ReferenceSet(("a dog",), "c", "text"), RegexDetector("x"))


def test_of_several_responses_the_first_that_shows_it_is_kept(tiny):
    options = {"max_new_tokens": 6, "samples": 3, "temperature": 1.0, "seed": 5}
    every = build(tiny, CANDIDATES, RegexDetector("(?s).*"), **options)
    assert len(every.responses) == 3 * len(every.answered)
    word = every.responses[1].text.split()[0]
    behaviour_set = build(tiny, CANDIDATES, RegexDetector(rf"^{word}\b"), **options)
    for prompt, response in zip(behaviour_set.selected.texts, behaviour_set.selected.responses, strict=True):
        said = [each.text for each in every.responses if each.prompt == prompt]
        assert response == next(text for text in said if text.split()[:1] == [word])
    assert behaviour_set.described()["samples"] == 3


def test_where_none_fits_that_is_said(tiny):
    with pytest.raises(ReferenceSetError, match=r"c: all 1 prompts are too long: .*64 tokens leaves 54 .*of 10"):
        build(tiny, ReferenceSet(("sea " * 500,), "c", "prompt"), RegexDetector("x"), max_new_tokens=10)
    with pytest.raises(ReferenceSetError, match="no room"):
        build(tiny, CANDIDATES, RegexDetector("x"), max_new_tokens=64)


def test_raw_prompts_go_without_the_chat_template(tiny):
    behaviour_set = build(tiny, CANDIDATES, RegexDetector("(?s).*"), raw=True, max_new_tokens=8)
    expected = generate(tiny, encode(tiny, CANDIDATES, raw=True, room=8), max_new_tokens=8)
    assert [list(response.tokens) for response in behaviour_set.responses] == expected
    assert behaviour_set.raw


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (ToxicityDetector(Vowels(), 1.0), r"a score of at least 1 by vowels; the highest score was 0\.\d+"),
        (RepetitionDetector(0.0), r"a uniqueness ratio of at most 0; the lowest ratio was \d"),
        (RegexDetector("elephant"), "a match of 'elephant'"),
    ],
)
def test_where_nothing_shows_the_behaviour_the_way_out_is_told(tiny, test, message):
    with pytest.raises(ReferenceSetError, match=message) as caught:
        build(tiny, CANDIDATES, test, max_new_tokens=6)
    assert f"words.txt: of {len(CANDIDATES)} that were answered" in str(caught.value)
    assert all(option in str(caught.value) for option in ("--threshold", "--shows"))


def test_an_empty_response_repeats_nothing():
    responses = [said("", []), said("x x", [1, 1]), said("x y", [1, 2])]
    test = RepetitionDetector()
    assert test.flags(responses, test.scores(responses)).tolist() == [False, True, False]
    assert "every response was empty" in test.nearest(test.scores(responses[:1]))


def test_a_pattern_is_found_anywhere():
    test = parse_detector("regex:(?i)b:d+$")
    responses = [said("a B:dd"), said("b:d no"), said("")]
    assert test.flags(responses, test.scores(responses)).tolist() == [True, False, False]


def test_a_scorer_that_returns_nonsense_is_refused():
    class Broken(Vowels):
        def score(self, texts):
            return [2.0] * len(texts)

    with pytest.raises(ScorerError, match="'vowels' gave 2 for text 1"):
        ToxicityDetector(Broken()).scores([said("x")])


def test_specs_are_understood():
    assert parse_detector("repetition") == RepetitionDetector(0.5)
    assert parse_detector("repetition", threshold=0.25) == RepetitionDetector(0.25)
    assert parse_detector("regex:a:b") == RegexDetector("a:b")
    for spec in ("toxicity", "scorer:profanity"):
        test = parse_detector(spec, threshold=0.7)
        assert test.described()["scorer"]["name"] == "alt-profanity-check"
        assert test.described()["threshold"] == 0.7
    assert parse_detector("toxicity").at_least == parse_detector("scorer:profanity").at_least == 0.9


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("kindness", {}, r"no sign 'kindness' .*toxicity, repetition, regex:PATTERN, scorer:SPEC"),
        ("toxicity:x", {}, "no sign 'toxicity:x'"),
        ("scorer:", {}, "no sign 'scorer:'"),
        ("regex", {}, "no sign 'regex'"),
        ("regex:", {}, "an empty pattern"),
        ("regex:(", {}, r"'\(' is no regular expression: missing \)"),
        ("regex:x", {"threshold": 0.5}, r"leave out --threshold 0\.5"),
        ("toxicity", {"threshold": 1.5}, r"--threshold is 1\.5; it must be from 0 to 1"),
        ("repetition", {"threshold": -1.0}, "--threshold is -1"),
        ("repetition", {"threshold": float("nan")}, "--threshold is nan"),
    ],
)
def test_a_bad_spec_is_refused_with_those_that_exist(spec, options, message):
    with pytest.raises(ReferenceSetError, match=message):
        parse_detector(spec, **options)


def test_an_unknown_scorer_is_refused():
    for spec, options in (("toxicity", {"scorer": "nice"}), ("scorer:nice", {})):
        with pytest.raises(ScorerError, match="no scorer 'nice'"):
            parse_detector(spec, **options)


def test_a_set_says_how_it_came_about(tiny):
    candidates = ReferenceSet((*CANDIDATES.texts, CANDIDATES.texts[0], "sea " * 500), "c", "prompt")
    behaviour_set = build(tiny, candidates, RepetitionDetector(1.0), max_new_tokens=6)
    assert behaviour_set.described() == {
        "shows": {"kind": "repetition", "threshold": 1.0},
        "answered": len(behaviour_set.answered),
    }
    assert behaviour_set.counts()["kept"] == len(behaviour_set.selected)
    assert (
        behaviour_set.counts()["candidates"]
        == len(behaviour_set.answered) + behaviour_set.duplicates + behaviour_set.too_long
    )
    json.dumps(behaviour_set.described())
    scorer = load_scorer()
    assert ToxicityDetector(scorer).described() == {
        "kind": "scorer",
        "scorer": {"name": scorer.name, "version": scorer.version},
        "threshold": 0.9,
        "counted_from": 0.5,
    }
    assert RegexDetector("a+").described() == {"kind": "regex", "pattern": "a+"}


@pytest.mark.parametrize("kind", ["prompt", "text"])
def test_a_saved_set_is_read_back(tmp_path, kind):
    texts = ("caf\u00e9 \U0001f600", 'two\nlines "quoted" \\', "line\u2028separator", "\ufeffmark", "plain")
    given = ReferenceSet(texts, "set.jsonl", kind)
    path = tmp_path / "set.jsonl"
    path.write_text("what was there before")
    save(given, path)
    assert references.read(path, kind=kind) == given
    assert json.loads(path.read_bytes().split(b"\n")[0]) == {kind: texts[0]}
    assert "caf\u00e9" in path.read_text(encoding="utf-8")
    assert os.listdir(tmp_path) == ["set.jsonl"]


def test_responses_that_come_with_prompts_are_saved_and_asked_anew(tiny, tmp_path):
    given = ReferenceSet(("a dog", "red sea"), "set.jsonl", "prompt", ("said one", "said two"))
    save(given, tmp_path / "set.jsonl")
    assert references.read(tmp_path / "set.jsonl", kind="prompt") == given
    behaviour_set = build(tiny, given, RegexDetector("(?s).*"), max_new_tokens=4)
    assert behaviour_set.selected.responses == tuple(response.text for response in behaviour_set.responses)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "set.jsonl"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ReferenceSetError, match=r"set\.jsonl: cannot be written: No space left"):
        save(CANDIDATES, path)
    assert os.listdir(tmp_path) == ["set.jsonl"]
    assert path.read_text() == "old"


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(ReferenceSetError, match=r"set\.txt: .*written as \.jsonl"):
        save(CANDIDATES, tmp_path / "set.txt")
    with pytest.raises(ReferenceSetError, match="cannot be written: No such file"):
        save(CANDIDATES, tmp_path / "gone" / "set.jsonl")
    (tmp_path / "file").write_text("")
    with pytest.raises(ReferenceSetError, match="cannot be written: Not a directory"):
        save(CANDIDATES, tmp_path / "file" / "set.jsonl")
    with pytest.raises(ReferenceSetError, match="half a surrogate pair"):
        save(ReferenceSet(("x\ud800",), "s", "text"), tmp_path / "set.jsonl")
