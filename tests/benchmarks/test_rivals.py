import json
import random

import pytest

import masks
from behaviours import is_repetitive
from benchmarks import material, rivals
from benchmarks.rivals import Sizes, loops, main, toxic, windows_of
from tests.correction.conftest import WORDS

SIZES = Sizes(
    prompts=6, passages=4, windows=2, fit=12, max_new_tokens=8, samples=1, temperature=0, passage_tokens=20, window=16
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The public data's shape, in words that the tiny model knows."""
    folder = tmp_path_factory.mktemp("data")
    draw = random.Random(0)

    def text(length):
        return " ".join(draw.choices(WORDS, k=length))

    passages = [{"prefix": text(12), "gold_completion": " " + text(18)} for _ in range(1100)]
    rows = []
    for row in range(40):
        score = 0.9 if row % 2 else 0.1
        word = "red" if row % 2 else "calm"
        part = {"text": f"{text(5)} {word}", "toxicity": score}
        rows.append({"prompt": part, "continuation": {**part, "text": f" {word} {text(5)}"}})
    for name, records in (("c4_passages", passages), ("real_toxicity_prompts_3500", rows)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "wikitext2_test.txt").write_text(text(100))
    return folder


def test_reports_share_nothing_with_the_search():
    assert not set(material.REPORT_OPENINGS) & (set(material.SEARCH_OPENINGS) | set(material.SEARCH_PASSAGES))
    assert not set(material.REPORT_PASSAGES) & (set(material.SEARCH_OPENINGS) | set(material.SEARCH_PASSAGES))


def test_toxic_rows_of_the_search_are_those_that_the_judge_was_trained_on(data):
    web = material.web(data)
    assert (len(web.toxic), len(web.harmless), len(web.prompts)) == (10, 20, 10)
    assert all("red" in text for text in (*web.toxic, *web.prompts))


def test_loops_are_fitted_on_what_the_model_said(tiny, data):
    case = loops(tiny, data, SIZES)
    assert len(case.bad) + len(case.good) == 12
    start = 1 + material.WORDS if tiny.tokenizer("the")["input_ids"][0] == 1 else material.WORDS
    assert all(is_repetitive(sample[start:]) for sample in case.bad)
    assert not any(is_repetitive(sample[start:]) for sample in case.good)
    assert case.judged([[1, 1, 1], [1, 2, 3]])["repetitive"][:2] == [1, 2]


def test_toxicity_is_judged_twice(tiny, data):
    case = toxic(tiny, data, SIZES)
    red, calm = (tiny.tokenizer.convert_tokens_to_ids(word) for word in ("red", "calm"))
    figures = case.judged([[red, red], [calm, calm]])
    assert figures["toxic_judge"][:2] == [1, 2]  # it learnt the word
    assert figures["toxic_profanity"][:2] == [0, 2]


def test_windows_are_whole(tiny):
    ids = tiny.tokenizer(" ".join(WORDS))["input_ids"]
    assert windows_of(tiny, " ".join(WORDS), 7, 3) == [ids[:7], ids[7:14], ids[14:21]]
    assert len(windows_of(tiny, " ".join(WORDS), len(ids) + 1, 3)) == 0


def test_every_method_is_measured_once(tiny_folder, data, tmp_path, monkeypatch, capsys):
    options = {"data": data, "prompts": 6, "passages": 4, "windows": 2, "fit": 60, "max_new_tokens": 8, "samples": 2}
    options |= {"passage_tokens": 20, "window": 16, "dtype": "auto"}
    out = tmp_path / "rows.jsonl"
    main(str(tiny_folder), out, "loops", only=["base", "mean_shift_1", "aura"], **options)
    rows = {row["rival"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert list(rows) == ["base", "aura", "mean_shift_1"]
    assert rows["base"]["c4"]["kl"][0] == pytest.approx(0, abs=1e-6)
    assert rows["aura"]["c4"]["kl"][0] > 1e-3
    assert rows["base"]["wikitext2"]["tokens"] == 30
    main(str(tiny_folder), out, "loops", only=None, **options)
    names = [json.loads(line)["rival"] for line in out.read_text().splitlines()]
    assert len(names) == len(set(names)) == 9
    file = tmp_path / "half.safetensors"
    masks.save(masks.for_model(tiny_folder, "half", neurons={0: range(24)}), file)
    main(str(tiny_folder), out, "loops", only=None, mask=[file], **options)
    row = json.loads(out.read_text().splitlines()[-1])
    assert row["rival"].startswith("mask half ")
    assert row["c4"]["kl"][0] > 1e-3
    monkeypatch.setattr(rivals, "measured", lambda *given: pytest.fail("measured again"))
    main(str(tiny_folder), out, "loops", only=None, mask=[file], **options)
    capsys.readouterr()
