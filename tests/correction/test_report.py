import io

from rich.console import Console

from correction.evaluation import evaluate
from correction.references import ReferenceSet
from correction.report import Row, picture, row, table

ROWS = [
    Row("base", 0.5, 0.42, 0.58, 0.0, 0.0, 0.02, 12.5, 150),
    Row("detox", 0.02, 0.01, 0.06, 0.01, 0.0, 0.04, 12.75, 150),
    Row("unmeasured"),
]


def drawn(rows):
    console = Console(file=io.StringIO(), width=140)
    console.print(table(rows, "Held-out prompts"))
    return console.file.getvalue()


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
    found = evaluate(tiny, ReferenceSet(("why",), "p", "prompt"), None, max_new_tokens=3)
    made = row("base", found)
    assert (made.variant, made.n, made.perplexity) == ("base", 1, None)
    assert made.toxicity_high == found.toxicity.rate.high
