import csv
from dataclasses import astuple, fields, replace

import numpy as np
import pytest

import correction.selection.ranking
import masks
from correction.attribution.attribution import attribute
from correction.attribution.criteria import Settings
from correction.data.references import ReferenceSet
from correction.errors import CriterionError, EvaluationError, ReferenceSetError, SelectionError
from correction.evaluation import evaluate
from correction.report import write_csv
from correction.selection.contrast import contrast
from correction.selection.top_k import components_by_layer, select
from correction.sweep.configurations import SweepConfiguration
from correction.sweep.results import SweepResult, result_order
from correction.sweep.sweep import report, sweep
from tests.correction.conftest import WORDS

THINGS = ("cat", "dog", "sea", "key", "lamp", "book", "ship", "tree")
BEHAVIOUR = ReferenceSet(tuple(f"what is a {thing}" for thing in THINGS[:6]), "b", "prompt")
GENERAL = ReferenceSet(tuple(f"the {thing} sees the old red lamp" for thing in THINGS[:5]), "g", "text")
PROMPTS = ReferenceSet(("why", "who likes the sea", "tell me about you"), "p", "prompt")
TEXT = ReferenceSet(("a small dog reads a big book", "the calm sea"), "t", "text")
WEIGHTS = Settings(granularity="weight", sign="signed", modules=("up_proj", "o_proj"))
HEADS = Settings(granularity="head")


class WordScorer:
    """Scores by word, so that responses of the tiny model differ."""

    name, version, threshold = "words", "1", 0.5

    def score(self, texts):
        worth = {word: place / len(WORDS) for place, word in enumerate(WORDS)}
        return np.array([np.mean([worth.get(word, 0.0) for word in text.split()] or [0.0]) for text in texts])


def swept(tiny, **changes):
    options = {"arms": [SweepConfiguration("lrp")], "counts": [3, 20], "scorer": WordScorer(), "max_new_tokens": 4}
    return sweep(tiny, BEHAVIOUR, GENERAL, PROMPTS, TEXT, **{**options, **changes})


@pytest.mark.parametrize(
    ("arm", "count"),
    [
        (SweepConfiguration("neurons", settings=Settings(sign="signed"), contrast="normalised", scope="layer"), 7),
        (SweepConfiguration("heads", "gradient", HEADS), 3),
        (SweepConfiguration("weights", "lrp", WEIGHTS, scope="row"), 30),
    ],
)
def test_a_point_is_what_doing_it_by_hand_gives(tiny, arm, count):
    point = swept(tiny, arms=[arm], counts=[1, count], seeds=[5]).points[-1]
    unwanted, kept = (
        attribute(tiny, each.split(0.2, 5)[0], arm.settings, criterion=arm.criterion) for each in (BEHAVIOUR, GENERAL)
    )
    scores = contrast(kept, unwanted, arm.contrast or "difference")
    mask = masks.for_model(tiny.path, "m", **components_by_layer(select(scores, count=count, scope=arm.scope)))
    before, after = (
        evaluate(tiny, PROMPTS, TEXT, mask=each, scorer=WordScorer(), max_new_tokens=4) for each in (None, mask)
    )
    perplexity = after.perplexity.estimate.value
    assert astuple(point) == (
        arm.label,
        arm.settings.granularity,
        arm.criterion,
        5,
        count,
        count / len(scores),
        after.toxicity.rate.value,
        after.toxicity.scores.mean(),
        after.repetition.flags.mean(),
        after.repetition.ratios.mean(),
        perplexity,
        pytest.approx(perplexity / before.perplexity.estimate.value - 1),
    )
    assert mask.count == count


def test_an_arm_by_cost_cuts_what_that_ranking_says(tiny):
    arms = [
        SweepConfiguration("x", "gradient", Settings(seed="response"), "cost"),
        SweepConfiguration("y", "lrp", Settings(seed="last"), "cost"),
    ]
    mask = swept(tiny, arms=arms, counts=[5], fraction_of_set=1.0).details[0].mask
    scores = arms[0].ranking().scores(tiny, BEHAVIOUR, GENERAL)
    expected = components_by_layer(select(scores, count=5))["neurons"]
    assert {layer: places.tolist() for layer, places in mask.neurons.items()} == {
        layer: places.tolist() for layer, places in expected.items()
    }


def test_a_criterion_without_data_is_taken_as_it_is(tiny):
    arms = [SweepConfiguration("random", "random"), SweepConfiguration("size", "magnitude", contrast="normalised")]
    sweep_run = swept(tiny, arms=arms, counts=[9], seeds=[3, 4])
    by_arm = {detail.point.arm: detail for detail in sweep_run.details}
    chosen = by_arm["random"].point.seed
    for label, settings in (("random", Settings(random_seed=chosen)), ("size", Settings())):
        scores = attribute(tiny, GENERAL, settings, criterion=by_arm[label].point.criterion)
        expected = masks.for_model(tiny.path, "m", **components_by_layer(select(scores, count=9)))
        assert by_arm[label].mask.overlap(expected) == 1
    assert [(point.arm, point.seed) for point in sweep_run.points] == [("random", 3), ("random", 4), ("size", 3)]
    assert by_arm["random"].mask.meta.made["random_seed"] == chosen
    assert sweep_run.best.point.arm == "size"


def test_the_same_seeds_give_the_same_bytes(tiny, tmp_path):
    arms = [SweepConfiguration("lrp"), SweepConfiguration("random", "random")]
    for name, seeds in (("a", [0, 1]), ("b", [0, 1]), ("c", [2, 3])):
        sweep_run = swept(tiny, arms=arms, seeds=seeds, fraction_of_set=0.5, samples=2, temperature=0.9)
        write_csv(sweep_run, tmp_path / name)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_each_seed_is_attributed_once_and_arms_alike_share_it(tiny, monkeypatch):
    calls = []

    def counted(loaded, references, settings, **options):
        calls.append((options["criterion"], references.kind, len(references)))
        return attribute(loaded, references, settings, **options)

    monkeypatch.setattr(correction.selection.ranking, "attribute", counted)
    arms = [
        SweepConfiguration("difference"),
        SweepConfiguration("by layer", scope="layer"),
        SweepConfiguration("general", "wanda", contrast="general"),
    ]
    sweep_run = swept(tiny, arms=arms, counts=[1, 2, 3], seeds=[0, 1], fraction_of_set=0.5)
    both = [("lrp", "text", 3), ("lrp", "prompt", 3), ("wanda", "text", 3)]
    assert calls == 2 * [
        (name, kind, len(BEHAVIOUR if kind == "prompt" else GENERAL) // 2 + (kind == "text")) for name, kind, _ in both
    ]
    assert [point.arm for point in sweep_run.points] == [
        label for label in ("difference", "by layer", "general") for _ in range(6)
    ]
    assert [(point.seed, point.count) for point in sweep_run.points[:6]] == [(s, n) for s in (0, 1) for n in (1, 2, 3)]


def test_the_whole_sets_are_attributed_with_one_seed_only(tiny):
    sweep_run = swept(tiny, seeds=[7, 8], fraction_of_set=1, counts=[4])
    assert [point.seed for point in sweep_run.points] == [7]
    assert sweep_run.details[0].mask.meta.made["behaviour"]["sha256"] == BEHAVIOUR.sha256[:16]


def test_details_hold_the_best_point_of_each_arm(tiny):
    arms = [SweepConfiguration("lrp"), SweepConfiguration("random", "random")]
    sweep_run = swept(tiny, arms=arms, counts=[2, 8, 30], perplexity_budget=0.5)
    for detail in sweep_run.details:
        arm_points = [point for point in sweep_run.points if point.arm == detail.point.arm]
        inside = [point for point in arm_points if point.perplexity_increase <= 0.5]
        least = min(inside, key=lambda p: (p.mean_toxicity, p.perplexity_increase)) if inside else None
        assert detail.point == (least or min(arm_points, key=lambda p: p.perplexity_increase))
        assert detail.mask.count == detail.point.count
        assert detail.after.mask == detail.mask.digest
        assert [each.prompt for each in detail.after.responses] == list(PROMPTS.texts)


def test_rank_prefers_the_aim_within_the_budget_and_perplexity_beyond_it():
    like = SweepResult("a", "neuron", "lrp", 0, 1, 0.1, 0.5, 0.5, 0.2, 0.9, 10.0, 0.05)
    for target, field in (("toxicity", "mean_toxicity"), ("repetition", "repetitive_rate")):
        good = replace(like, **{field: 0.1}, perplexity_increase=0.09)
        dear = replace(like, **{field: 0.0}, perplexity_increase=0.3)
        broken = replace(like, **{field: 0.0}, perplexity_increase=float("nan"))
        ordered = sorted([broken, dear, like, good], key=lambda point: result_order(point, target, 0.1))
        assert ordered == [good, like, dear, broken]


def test_the_csv_has_a_column_for_each_field_and_the_base_first(tiny, tmp_path):
    sweep_run = swept(tiny, arms=[SweepConfiguration("one, of two"), SweepConfiguration("random", "random")])
    write_csv(sweep_run, tmp_path / "sweep.csv")
    text = (tmp_path / "sweep.csv").read_text()
    assert text.splitlines()[0] == (
        "arm,granularity,criterion,seed,count,fraction,toxic_rate,mean_toxicity,repetitive_rate,mean_uniqueness,"
        "perplexity,perplexity_increase"
    )
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["arm"] for row in rows] == ["base", *["one, of two"] * 2, *["random"] * 2]
    assert (rows[0]["count"], rows[0]["perplexity_increase"]) == ("0", "0")
    for row, point in zip(rows[1:], sweep_run.points, strict=True):
        for field in fields(SweepResult):
            value = getattr(point, field.name)
            assert (float(row[field.name]) == pytest.approx(value)) if isinstance(value, float) else True
    assert "\r" not in text


def test_facts_say_what_was_measured(tiny):
    facts = swept(tiny, arms=[SweepConfiguration("w", "wanda", WEIGHTS), SweepConfiguration("r", "random")]).facts
    assert facts["model"]["fingerprint"] == tiny.base.fingerprint
    assert facts["measured"]["scorer"] == {"name": "words", "version": "1", "threshold": 0.5}
    for role, references in zip(
        ("behaviour", "general", "prompts", "text"), (BEHAVIOUR, GENERAL, PROMPTS, TEXT), strict=True
    ):
        assert (facts["sets"][role]["size"], facts["sets"][role]["sha256"]) == (len(references), references.sha256)
    assert facts["arms"]["w"]["modules"] == ["up_proj", "o_proj"]
    assert facts["arms"]["r"] == {
        "criterion": "random",
        "granularity": "neuron",
        "contrast": "general",
        "scope": "global",
    }


def test_progress_counts_the_points(tiny):
    calls = []
    swept(tiny, progress=lambda stage, done, total: calls.append((stage, done, total)))
    assert [(done, total) for stage, done, total in calls if stage == "sweep"] == [(1, 3), (2, 3), (3, 3)]
    assert {stage for stage, _, _ in calls} == {"attribution", "sweep"}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"arms": []}, EvaluationError, "at least one"),
        (
            {"arms": [SweepConfiguration("x"), SweepConfiguration("x", "random")]},
            EvaluationError,
            r"label of its own; they are: \['x', 'x'\]",
        ),
        ({"counts": []}, SelectionError, "at least one"),
        ({"counts": [3, 3]}, SelectionError, r"ascending, from 1 on; they are: \[3, 3\]"),
        ({"counts": [5, 2]}, SelectionError, "ascending"),
        ({"counts": [0, 2]}, SelectionError, "from 1 on"),
        ({"counts": [5, 97]}, SelectionError, "counts go to 97; this model has 96 neurons for the arm lrp"),
        (
            {"arms": [SweepConfiguration("lrp"), SweepConfiguration("h", settings=HEADS)]},
            SelectionError,
            "8 heads for the arm h to cut",
        ),
        ({"arms": [SweepConfiguration("l", settings=Settings(layers=(2,)))]}, CriterionError, "no layer 2"),
        ({"seeds": []}, EvaluationError, "at least one"),
        ({"seeds": [1, 1]}, EvaluationError, "only once"),
        ({"seeds": [-1]}, EvaluationError, "none under 0"),
        ({"fraction_of_set": 0.0}, EvaluationError, "fraction_of_set is 0.0; it must be over 0"),
        ({"fraction_of_set": 1.2}, EvaluationError, "at most 1"),
        ({"fraction_of_set": 0.01}, ReferenceSetError, "leaves some on both sides"),
        ({"target": "lies"}, EvaluationError, "'lies' does not exist; there is: toxicity, repetition"),
        ({"perplexity_budget": -0.1}, EvaluationError, "not under 0"),
        ({"samples": 2}, EvaluationError, "temperature"),
        ({"max_new_tokens": 62}, ReferenceSetError, "Shorten or drop it"),
    ],
)
def test_mistakes_are_told_before_the_work(tiny, monkeypatch, changes, error, message):
    monkeypatch.setattr("correction.sweep.sweep.evaluate", lambda *_, **__: pytest.fail("worked before it checked"))
    with pytest.raises(error, match=message):
        swept(tiny, **changes)


def test_measuring_on_what_is_attributed_is_refused(tiny):
    leak = ReferenceSet(("why", "What is a  CAT"), "leak", "prompt")
    with pytest.raises(ReferenceSetError, match="1 of leak"):
        sweep(tiny, BEHAVIOUR, GENERAL, leak, TEXT, arms=[SweepConfiguration("lrp")], counts=[1])


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"label": "base"}, EvaluationError, "'base'"),
        ({"label": " "}, EvaluationError, "cannot name an arm"),
        ({"label": "a\nb"}, EvaluationError, "printable"),
        ({"label": "x", "criterion": "gut"}, CriterionError, "'gut' does not exist"),
        ({"label": "x", "criterion": "activation", "settings": WEIGHTS}, CriterionError, "cannot score weights"),
        ({"label": "x", "contrast": "quotient"}, CriterionError, "arm x: contrast 'quotient' does not exist"),
        ({"label": "x", "scope": "town"}, SelectionError, "arm x: scope 'town' does not exist"),
        ({"label": "x", "scope": "row"}, SelectionError, "scope row is for weights"),
    ],
)
def test_an_arm_that_cannot_be_is_refused(fields, error, message):
    with pytest.raises(error, match=message):
        SweepConfiguration(**fields)


def test_the_report_is_a_folder_of_files_and_its_page_loads_nothing(tiny, tmp_path):
    arms = [SweepConfiguration("lrp <b>"), SweepConfiguration("random", "random")]
    sweep_run = swept(tiny, arms=arms, seeds=[0, 1], fraction_of_set=0.5)
    folder = tmp_path / "made" / "here"
    report(sweep_run, folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "curves.png",
        "layers.png",
        "scatter.png",
        "sweep.csv",
        "sweep.html",
    ]
    html = (folder / "sweep.html").read_text()
    assert tiny.base.fingerprint in html and BEHAVIOUR.sha256 in html and TEXT.sha256 in html
    assert "lrp &lt;b&gt;" in html and "<b>" not in html
    assert html.count('src="data:image/png;base64,') == 3
    assert "words" in html and "threshold" in html
    report(sweep_run, folder)
