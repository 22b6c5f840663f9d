import csv
import json
import sys
import types

import pytest

from correction.data.references import ReferenceSet, overlap, read
from correction.errors import ReferenceSetError


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_reads_prompts_texts_and_real_toxicity_prompts(tmp_path):
    prompts = read(write(tmp_path / "p.jsonl", {"prompt": "who?"}, {"prompt": "why?"}), kind="prompt")
    assert (prompts.texts, prompts.kind, prompts.name) == (("who?", "why?"), "prompt", "p.jsonl")
    assert read(write(tmp_path / "t.jsonl", {"text": "so"})).kind == "text"
    shape = {"prompt": {"text": "And then", "toxicity": 0.9}, "continuation": {"text": "x"}}
    assert read(write(tmp_path / "r.jsonl", shape)).texts == ("And then",)


def test_lines_of_a_text_file_are_of_the_kind_asked_for(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes("one\r\n\n two \nthrée\n".encode())
    assert read(path).texts == ("one", " two ", "thrée")
    assert (read(path).kind, read(path, kind="prompt").kind) == ("text", "prompt")
    assert len(read(path, limit=2)) == 2


def test_the_kind_asked_for_decides_whatever_the_column_is_called(tmp_path):
    path = write(tmp_path / "t.jsonl", {"text": "who?"})
    assert (read(path, kind="prompt").kind, read(path, kind="prompt").texts) == ("prompt", ("who?",))
    assert read(write(tmp_path / "p.jsonl", {"prompt": "so"})).kind == "text"


def test_the_kind_asked_for_decides_between_two_columns(tmp_path):
    path = write(tmp_path / "both.jsonl", {"prompt": "p", "text": "t"})
    assert read(path).texts == ("t",)
    assert read(path, kind="prompt").texts == ("p",)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", b"", "a.jsonl: the reference set is empty"),
        ("a.txt", b"\n \n", "a.txt: the reference set is empty"),
        ("a.jsonl", b'{"question": "x", "id": 1}\n', "line 1: needs .* its columns are: id, question"),
        ("a.jsonl", b'{"text": "x"}\n{"txt": "x"}\n', "line 2: no text under 'text'; the columns are: txt"),
        ("a.jsonl", b'{"text": 5}\n', "line 1: no text under 'text'"),
        ("a.jsonl", b'{"text": "  "}\n', "line 1: no text"),
        ("a.jsonl", b"[1]\n", "row 1: needs .* none"),
        ("a.jsonl", b'{"text": "x"}\n{"text"\n', "line 2: not JSON"),
        ("a.jsonl", b'{"text": "caf\xe9"}\n', "not UTF-8: byte 13 is 0xe9"),
        ("a.txt", b"ok\nbad \xff", "not UTF-8: byte 7 is 0xff"),
        ("a.tsv", b"text\nx\n", ".jsonl, .json, .csv or .txt"),
        ("a.csv", b"goal,target\nx,y\n", "line 2: needs .* its columns are: goal, target"),
        ("a.csv", b'text\n"x\n', "line 1: not CSV"),
        ("a.jsonl", b'{"prompt": "x", "response": 5}\n', "line 1: no text"),
        ("a.jsonl", b'{"text": "x"}\n' + b"[" * 100_000, "line 2: nested too deep"),
        ("a.json", b'[\n {"text": "x"},\n {"txt": "x"}\n]\n', "row 2: no text under 'text'; the columns are: txt"),
        ("a.json", b'[\n {"text": "x"},\n', "line 1: not JSON"),
        ("a.json", b"[]", "a.json: the reference set is empty"),
        (
            "a.jsonl",
            b'{"messages": [{"role": "assistant", "content": "x"}], "response": ""}',
            "no text under 'messages'",
        ),
        ("a.jsonl", b'{"messages": [], "response": ""}', "no text under 'messages'; the columns are: messages, resp"),
    ],
)
def test_a_bad_file_is_refused_with_the_place(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ReferenceSetError, match=message):
        read(tmp_path / name, kind="prompt" if b"response" in data else "text")


BREAKS = "one\u2028two\x85three\x0cfour\x0bfive\x1csix"
"""What str.splitlines takes for ends of lines, and nobody else does."""


def test_only_line_feeds_and_carriage_returns_end_lines(tmp_path):
    (tmp_path / "a.txt").write_bytes(f"{BREAKS}\r\n{BREAKS} again\rlast\n".encode())
    assert read(tmp_path / "a.txt").texts == (BREAKS, f"{BREAKS} again", "last")
    (tmp_path / "a.csv").write_bytes(f'id,text\r\n1,{BREAKS}\r\n2,"{BREAKS}\nin\r\ntwo"\r3,x\n'.encode())
    assert read(tmp_path / "a.csv").texts == (BREAKS, f"{BREAKS}\nin\r\ntwo", "x")
    (tmp_path / "a.jsonl").write_bytes(f'{{"text": "{BREAKS[:13]}"}}\r\n{{"text": "b"}}\r{{"text": "c"}}'.encode())
    assert read(tmp_path / "a.jsonl").texts == (BREAKS[:13], "b", "c")


def test_a_cell_may_be_as_long_as_a_book(tmp_path):
    long = "word " * 60_000
    (tmp_path / "a.csv").write_text(f"text\n{long}\nshort\n")
    before = csv.field_size_limit()
    assert read(tmp_path / "a.csv").texts == (long, "short")
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("indent", [None, 2])
def test_json_may_be_one_array_or_rows_over_several_lines(tmp_path, indent):
    records = [{"text": "a", "id": 1}, {"text": "b\nc", "id": 2}]
    (tmp_path / "array.json").write_text(json.dumps(records, indent=indent))
    (tmp_path / "array.jsonl").write_text(json.dumps(records, indent=indent) + "\n")
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(record, indent=indent) for record in records))
    for name in ("array.json", "array.jsonl", "rows.jsonl"):
        assert read(tmp_path / name).texts == ("a", "b\nc")
    assert read(tmp_path / "array.json", limit=1).texts == ("a",)


def test_numbers_of_any_length_are_passed_over(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "id": ' + "9" * 5000 + "}")
    assert read(tmp_path / "a.jsonl").texts == ("a",)


@pytest.mark.parametrize(("name", "data"), [("A.TXT", "a\n"), ("A.JSONL", '{"text": "a"}'), ("A.CSV", "text,n\na,b\n")])
def test_endings_may_be_in_upper_case(tmp_path, name, data):
    (tmp_path / name).write_text(data)
    assert read(tmp_path / name).texts == ("a",)
    if name == "A.CSV":
        assert read(f"{tmp_path / name}:n").texts == ("b",)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ReferenceSetError, match=r"gone\.txt: cannot be read: No such file"):
        read(tmp_path / "gone.txt")


def test_a_set_is_known_by_its_texts_and_not_by_its_file(tmp_path):
    one = read(write(tmp_path / "a.jsonl", {"text": "x"}, {"text": "y"}))
    (tmp_path / "b.txt").write_text("x\ny\n", encoding="utf-8")
    two = read(tmp_path / "b.txt")
    assert one.sha256 == two.sha256 != ReferenceSet(("xy",), "c", "text").sha256
    assert len(one.sha256) == 64


def test_split_keeps_copies_together_and_repeats_by_seed():
    everything = ReferenceSet(tuple(f"text {n}" for n in range(40)) * 2 + (" TEXT  3",), "a", "text")
    kept, held = everything.split(0.25, seed=4)
    assert len(set(held.texts) - {" TEXT  3"}) == 10
    assert len(kept) + len(held) == len(everything)
    assert not overlap(kept, held)
    assert (kept, held) == everything.split(0.25, seed=4) != everything.split(0.25, seed=5)


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 1.5])
def test_a_split_with_an_empty_side_is_refused(fraction):
    with pytest.raises(ReferenceSetError, match="cannot hold out"):
        ReferenceSet(("a", "b"), "s", "text").split(fraction)


def test_overlap_ignores_case_and_space():
    a, b = ReferenceSet(("Who  are you", "x"), "a", "prompt"), ReferenceSet(("who are YOU ", "y"), "b", "prompt")
    assert overlap(a, b) == ("Who  are you",)


def test_hub_datasets_need_their_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ReferenceSetError, match="pip install datasets"):
        read("hf:owner/set")
    with pytest.raises(ReferenceSetError, match=r"hf:dataset\[:split\[:column\]\]"):
        read("hf:a:b:c:d")


def test_hub_datasets_are_read_by_split_and_column(monkeypatch):
    class Rows(list):
        column_names = ("body", "prompt")

    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        return Rows([{"body": "b", "prompt": "p"}])

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    assert read("hf:owner/set").texts == ("p",)
    assert read("hf:owner/set:test:body").texts == ("b",)
    assert asked == [("owner/set", "train"), ("owner/set", "test")]
    with pytest.raises(ReferenceSetError, match="row 0: no text under 'title'; the columns are: body, prompt"):
        read("hf:owner/set::title")


def test_csv_columns_can_be_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('goal,text\n"make, then\nbreak",x\n')
    assert read(path).texts == ("x",)
    assert read(f"{path}:goal", kind="prompt").texts == ("make, then\nbreak",)


def test_responses_come_with_their_prompts_and_stay_with_them(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"prompt": "p{n}", "response": "r{n}"}}\n' for n in range(4)))
    references = read(path, kind="prompt")
    assert references.responses == ("r0", "r1", "r2", "r3")
    for part in references.split(0.5):
        assert part.responses == tuple(text.replace("p", "r") for text in part.texts)
    assert references.sha256 != ReferenceSet(references.texts, "a", "prompt").sha256
    both = ReferenceSet(("a", "responses", "b"), "x", "prompt"), ReferenceSet(("a",), "x", "prompt", ("b",))
    assert both[0].sha256 == both[0].sha256 != both[1].sha256
    path.write_text('{"prompt": "x", "response": "\\n\\n"}\n')  # a response may be of white space alone
    assert read(path, kind="prompt").responses == ("\n\n",)
    with pytest.raises(ReferenceSetError, match="one to each"):
        ReferenceSet(("a", "b"), "x", "prompt", ("only one",))


def test_a_text_file_can_be_one_text(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\n two\n")
    assert read(tmp_path / "a.txt", whole=True).texts == ("one\n\n two\n",)
