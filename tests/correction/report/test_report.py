import hashlib
import io
import re
from base64 import b64decode, b64encode
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

import masks
from correction import report
from correction.data.references import ReferenceSet
from correction.errors import EvaluationError
from correction.evaluation import Evaluation, Response, evaluate
from correction.evaluation.toxicity import toxicity
from correction.report import Example, Picture, Row, Table, curves, layers, page, picture, row, scatter, table
from correction.report.mask_details import by_layer, prompt_toxicity
from correction.report.sweep_curves import GREY, _amount, _lines, _spaced
from correction.report.sweep_report import examples
from correction.sweep.results import Sweep, SweepResult

ROWS = [
    Row("base", 0.5, 0.42, 0.58, 0.0, 0.0, 0.02, 12.5, 150),
    Row("detox", 0.02, 0.01, 0.06, 0.01, 0.0, 0.04, 12.75, 150),
    Row("unmeasured"),
]
ATTACK = "</p><script>alert(1)</script><img src=x onerror='alert(2)'>&amp;\x00"
FINGERPRINT = "0" * 64


def drawn(rows):
    console = Console(file=io.StringIO(), width=140)
    console.print(table(rows, "Held-out prompts"))
    return console.file.getvalue()


def size_of(png):
    """Width and height; raises unless the file is a PNG, whole to its end."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n") and png.endswith(b"IEND\xaeB`\x82")
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


def point(arm, criterion, seed, count, increase, granularity="neuron"):
    left = 1.0 if criterion == "random" else np.exp(-count / 100)
    perplexity = 20 * (1 + increase)
    return SweepResult(
        arm, granularity, criterion, seed, count, count / 5000, 0.4 * left, 0.3, 0.02, 0.9, perplexity, increase
    )


def made_up(counts, increase=0.001, **changes):
    base = SweepResult("base", "", "", 0, 0, 0.0, 0.4, 0.3, 0.02, 0.9, 20.0, 0.0)
    points = tuple(
        point(arm, criterion, seed, count, increase * count, **changes)
        for arm, criterion in (("a", "lrp"), ("_b $\\oops$", "gradient"), ("floor", "random"))
        for seed in (0, 1)
        for count in counts
    )
    return Sweep(base, None, points, (), "toxicity", 0.1, {})


class Given:
    name, version, threshold = "given", "1", 0.5

    def __init__(self, scores):
        self.scores = scores

    def score(self, texts):
        return np.array(self.scores)


def scored(scores, samples=1, said="fine"):
    responses = tuple(Response(f"p{n // samples}", said, (1,)) for n in range(len(scores)))
    measured_toxicity = toxicity([said] * len(scores), Given(scores), samples=samples)
    return Evaluation(None, responses, measured_toxicity, None, None, 9, 0.95, samples=samples)


def mask_over(layers=3, made=None, **cuts):
    geometry = masks.Geometry(layers=layers, neurons=40, heads=4, head_dim=8, hidden=32)
    base = masks.BaseModel("m", "LlamaForCausalLM", geometry, FINGERPRINT)
    shapes = {name: (32, 40) if "up" in name else (32, 32) for name in cuts.get("weights", {})}
    meta = masks.Meta("m", base, shapes, "2026-11-30T12:00:00Z", made or {}, {})
    return masks.Mask(cuts.get("neurons", {}), cuts.get("heads", {}), cuts.get("weights", {}), meta)


class Parsed(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.said = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.said.append(data)

    def of(self, tag, attribute):
        return [value for where, name, value in self.attributes if (where, name) == (tag, attribute)]


@pytest.fixture
def png(tmp_path):
    layers(mask_over(neurons={0: [1]}), tmp_path / "small.png")
    return (tmp_path / "small.png").read_bytes()


def written(tmp_path, png, **changes):
    given = {
        "title": ATTACK,
        "tables": [Table(ATTACK, ("name", ATTACK), [("a", "1"), (ATTACK, "+2.0%")])],
        "pictures": [Picture(png, f'"{ATTACK}"', ATTACK)],
        "examples": [Example(ATTACK, ATTACK, " ", 0.9, 0.01), Example("p", "\u202ebidi \ud800", "x")],
        "facts": {ATTACK: {ATTACK: [ATTACK, None, True, 0.5]}},
        "notes": [ATTACK],
        "about_examples": ATTACK,
        **changes,
    }
    page(tmp_path / "p.html", **given)
    return (tmp_path / "p.html").read_text(encoding="utf-8")


def test_table_shows_rates_with_intervals_and_the_change_of_perplexity():
    text = drawn(ROWS)
    assert "50.0% (42.0% to 58.0%)" in text
    assert "12.750 (+2.00%)" in text
    assert "12.500 " in text
    assert "–" in text


def test_picture_is_a_png(tmp_path):
    picture(ROWS, tmp_path / "p.png", "Held-out prompts")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG\r\n")
    picture([Row("only", perplexity=3.0)], tmp_path / "q.png")


def test_a_row_is_made_of_an_evaluation(tiny):
    evaluation = evaluate(tiny, ReferenceSet(("why",), "p", "prompt"), None, max_new_tokens=3)
    made = row("base", evaluation)
    assert (made.variant, made.n, made.perplexity) == ("base", 1, None)
    assert made.toxicity_high == evaluation.toxicity.rate.high


def test_the_package_offers_what_the_module_did():
    assert (report.Row, report.row, report.table, report.picture) == (Row, row, table, picture)


@pytest.mark.parametrize(
    ("counts", "increase", "changes"),
    [
        ([10, 20, 30], 0.001, {}),
        ([5, 50, 5000], 0.01, {}),
        ([7], 0.0, {}),
        ([7, 8], float("nan"), {}),
        ([7, 8], float("inf"), {"granularity": "weight"}),
    ],
)
def test_curves_are_a_picture_whatever_the_range(tmp_path, counts, increase, changes):
    curves(made_up(counts, increase, **changes), tmp_path / "c.png")
    assert size_of((tmp_path / "c.png").read_bytes()) == (2025, 1140)


def test_random_is_grey_and_no_two_of_many_arms_look_alike():
    points = [point(f"arm {n}", "lrp", 0, 5, 0.1) for n in range(24)]
    lines = _lines([*points, point("floor", "random", 0, 5, 0.1)])
    assert (lines[0].label, lines[0].colour) == ("floor", GREY)
    assert len({(line.colour, line.dashes) for line in lines}) == 25


def test_the_horizontal_axis_is_a_share_where_kinds_differ():
    one, other = point("a", "lrp", 0, 50, 0.1), point("b", "lrp", 0, 50, 0.1, "head")
    assert _amount([one])[1] == "neurons cut"
    amount, label = _amount([one, other])
    assert amount(one) == pytest.approx(1.0) and "%" in label


def test_tick_labels_keep_apart():
    assert _spaced([1, 2, 3, 4], logarithmic=False) == [1, 2, 3, 4]
    assert _spaced([10, 11, 12, 500, 1000], logarithmic=False) == [12, 500, 1000]
    assert _spaced([10, 100, 1000], logarithmic=True) == [10, 100, 1000]
    assert _spaced([7], logarithmic=True) == [7]


def test_scatter_is_a_picture_of_prompts(tmp_path):
    scatter(scored([0.1, 0.9, 0.6]), scored([0.1, 0.2, 0.8]), tmp_path / "s.png", r"A title that is long $\oops$ " * 6)
    width, height = size_of((tmp_path / "s.png").read_bytes())
    assert (width, height) == (840, 915)


def test_samples_of_a_prompt_are_averaged():
    assert prompt_toxicity(scored([0.2, 0.4, 1.0, 0.0], samples=2)).tolist() == pytest.approx([0.3, 0.5])


def test_scatter_refuses_other_prompts_or_none(tmp_path):
    with pytest.raises(EvaluationError, match="different prompts"):
        scatter(scored([0.1, 0.9]), scored([0.1]), tmp_path / "s.png")
    with pytest.raises(EvaluationError, match="no toxicity"):
        scatter(scored([0.1]), Evaluation(None, (), None, None, None, 9, 0.95), tmp_path / "s.png")


def test_shares_by_layer_are_of_what_the_layer_has():
    weights = {
        "model.layers.0.mlp.up_proj.weight": [1, 2, 3, 4],
        "model.layers.2.self_attn.o_proj.weight": list(range(512)),
    }
    shares = by_layer(mask_over(neurons={1: [0, 1, 2, 3]}, heads={2: [0]}, weights=weights))
    assert shares["neurons"].tolist() == [0, 0.1, 0]
    assert shares["heads"].tolist() == [0, 0, 0.25]
    assert shares["weights"].tolist() == [4 / 2304, 0, 512 / 2304]
    decoder = by_layer(mask_over(weights={"model.decoder.layers.1.fc2.weight": [0]}))
    assert set(decoder) == {"weights"} and decoder["weights"].argmax() == 1


def test_layers_are_a_picture_for_one_mask_and_for_many(tmp_path):
    one = mask_over(neurons={0: [1], 2: [3]})
    many = {
        f"_mask $\\oops$ {n}": mask_over(
            80, {"criterion": "random" if n == 3 else "lrp"}, neurons={n: [1]}, heads={n: [0]}
        )
        for n in range(8)
    }
    layers(one, tmp_path / "one.png")
    layers(many, tmp_path / "many.png")
    assert size_of((tmp_path / "one.png").read_bytes())[0] == size_of((tmp_path / "many.png").read_bytes())[0] == 1350
    for nothing in ({}, mask_over()):
        with pytest.raises(EvaluationError, match="nothing to draw"):
            layers(nothing, tmp_path / "none.png")


def test_no_text_becomes_markup(tmp_path, png):
    text = written(tmp_path, png)
    parsed = Parsed(text)
    assert "script" not in parsed.tags and "<script" not in text
    assert len(parsed.of("img", "src")) == 1 and not [a for a in parsed.attributes if a[1].startswith("on")]
    shown = ATTACK.replace("\x00", "�")
    assert parsed.said.count(shown) >= 6
    assert parsed.of("img", "alt") == [f'"{shown}"']
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", text) and "bidi �" in text


def test_the_page_loads_and_runs_nothing(tmp_path, png):
    parsed = Parsed(text := written(tmp_path, png))
    assert set(parsed.tags) <= {
        "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "figure", "img", "figcaption", "div",
        "table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary", "strong", "em", "span", "dl",
        "dt", "dd",
    }  # fmt: skip
    assert {name for _, name, _ in parsed.attributes} <= {
        "lang", "charset", "http-equiv", "content", "name", "class", "scope", "src", "width", "height", "alt", "dir",
    }  # fmt: skip
    assert "http://" not in text and "https://" not in text and "url(" not in text and "@import" not in text
    (source,) = parsed.of("img", "src")
    assert b64decode(source.removeprefix("data:image/png;base64,"), validate=True) == png
    assert (parsed.of("img", "width"), parsed.of("img", "height")) == (
        [str(round(size_of(png)[0] * 0.64))],
        [str(round(size_of(png)[1] * 0.64))],
    )


def test_the_policy_forbids_everything_but_its_own_style_and_pictures(tmp_path, png):
    text = written(tmp_path, png)
    policy = dict(part.split(" ", 1) for part in Parsed(text).of("meta", "content")[0].split("; "))
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert text.index("Content-Security-Policy") < text.index("<style>") < text.index("<body>")
    assert "color-scheme: light dark" in style


def test_examples_are_closed_behind_a_warning(tmp_path, png):
    text = written(tmp_path, png)
    assert text.index("<details>") < text.index("Warning: responses may be") < text.index('class="pair"')
    assert "<details open" not in text
    assert "score 0.900" in text and "score 0.010" in text and "(empty)" in text
    assert "<details>" not in written(tmp_path, png, examples=[])


def test_the_page_tells_its_facts_and_stands_numbers_to_the_right(tmp_path, png):
    facts = {"model": {"id": "m", "fingerprint": FINGERPRINT}, "max_length": None, "chat_template": False}
    text = written(tmp_path, png, facts=facts, tables=[Table("t", ("n", "w"), [("1,000", "x"), ("–", "5")])])
    assert f"<dt>fingerprint</dt><dd>{FINGERPRINT}</dd>" in text
    assert "<dt>max length</dt><dd>none</dd>" in text and "<dt>chat template</dt><dd>no</dd>" in text
    assert '<th scope="col" class="number">n</th><th scope="col">w</th>' in text
    assert text.startswith("<!doctype html>") and '<html lang="en">' in text and text.count("<title>") == 1


def test_a_picture_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'GIF' is not a PNG"):
        written(tmp_path, b"", pictures=[Picture(b"GIF89a", "GIF")])


def test_examples_are_the_worst_and_some_of_the_rest():
    before, after = scored([0.1, 0.9, 0.2, 0.8, 0.3, 0.0]), scored([0.0] * 6, said="<b>")
    shown_examples = examples(before, after, 4)
    assert [each.prompt for each in shown_examples] == ["p1", "p3", "p0", "p5"]
    assert (shown_examples[0].score_before, shown_examples[0].score_after, shown_examples[0].after) == (0.9, 0.0, "<b>")
    assert len(examples(before, after, 20)) == 6
    assert len(examples(scored([0.4]), scored([0.1]), 10)) == 1
