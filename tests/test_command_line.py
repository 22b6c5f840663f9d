"""The command line as a user meets it: real files in, real masks and figures out, one clear line for each mistake."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

import masks
from tests.forked import ROOT, excise

MODEL, DATA = ROOT / "demo" / "model", ROOT / "demo" / "data"


def few(path: Path, source: str, rows: int) -> Path:
    path.write_text("".join((DATA / source).read_text().splitlines(keepends=True)[:rows]))
    return path


@pytest.fixture(scope="module")
def detox(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    behaviour, general = few(folder / "b.jsonl", "insult.jsonl", 40), few(folder / "g.jsonl", "general.jsonl", 40)
    run = excise(
        *("correct", "--model", MODEL, "--behaviour", behaviour, "--general", general),
        *("--count", 50, "--contrast", "difference", "--name", "detox", "-o", folder / "detox.safetensors"),
        *("--dtype", "float32", "--json"),
    )
    assert run.returncode == 0, run.stderr
    return folder / "detox.safetensors", json.loads(run.stdout)


def test_correct_writes_a_mask_that_says_how_it_was_made_and_what_it_measured(detox):
    path, document = detox
    mask = masks.load(path)
    assert (mask.digest, mask.counts["neurons"]) == (document["digest"], 50)
    made, measured = document["made"], document["measured"]
    assert made["criterion"] == "lrp"
    assert made["behaviour"]["size"] == 30
    assert measured["prompts"]["size"] == 10
    assert measured["after"]["toxic"][0] < measured["before"]["toxic"][0]


def test_inspect_shows_it(detox):
    path, _ = detox
    run = excise("inspect", path)
    assert run.returncode == 0, run.stderr
    for said in ("50 neurons", masks.load(path).digest, "layer 0, neurons", "lrp", "perplexity"):
        assert said in run.stdout
    assert json.loads(excise("inspect", path, "--json").stdout)["counts"]["neurons"] == 50


def test_inspect_shows_what_speaks_against_a_mask(tmp_path):
    measured = {"difference": {"perplexity": [2.45, 2.1, 2.9]}}
    masks.save(masks.for_model(MODEL, "bad", neurons={0: [1]}, measured=measured), tmp_path / "bad.safetensors")
    told = "Perplexity rose by 245.0% (interval 210.0% to 290.0%)."
    assert f"warning: {told}\n" in excise("inspect", tmp_path / "bad.safetensors").stdout
    assert json.loads(excise("inspect", tmp_path / "bad.safetensors", "--json").stdout)["warnings"] == [told]


def test_inspect_tells_dampened_from_cut(tmp_path):
    gates = {0: 0.25, 1: 0.25, 2: 0.5, 3: 0}
    mask = masks.for_model(MODEL, "m", neurons={1: gates}, weights={"model.layers.0.mlp.up_proj.weight": [4]})
    masks.save(mask, tmp_path / "m.safetensors")
    run = excise("inspect", tmp_path / "m.safetensors")
    assert "4 neurons, 1 weights (3 of them dampened)" in run.stdout
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in run.stdout.splitlines() if "│" in line]
    assert ["layer 1, neurons", "1", "2", "1", str(mask.meta.base.geometry.neurons)] in rows
    document = json.loads(excise("inspect", tmp_path / "m.safetensors", "--json").stdout)
    assert (document["format"], document["dampened"], document["counts"]["neurons"]) == (2, 3, 4)


def test_evaluate_compares_before_and_after(detox, tmp_path):
    path, _ = detox
    prompts, text = (
        few(tmp_path / "p.jsonl", "insult_heldout.jsonl", 20),
        few(tmp_path / "t.jsonl", "general_heldout.jsonl", 20),
    )
    run = excise(
        *("evaluate", "--model", MODEL, "--mask", path, "--prompts", prompts, "--text", text),
        *("--dtype", "float32", "--json"),
    )
    result = json.loads(run.stdout)
    assert result["detox"]["toxic"][0] < result["base"]["toxic"][0]
    assert result["base"]["scorer"]["name"] == "alt-profanity-check"
    assert set(result["difference"]) >= {"toxic", "perplexity"}
    assert "detox" in excise("evaluate", "--model", MODEL, "--mask", path, "--prompts", prompts).stdout


def test_a_card_says_what_the_mask_leaves_as_it_was(detox, tmp_path):
    path, _ = detox
    prompts, neutral, text = (
        few(tmp_path / "p.jsonl", "insult_heldout.jsonl", 6),
        few(tmp_path / "n.jsonl", "insult.jsonl", 8),
        few(tmp_path / "t.jsonl", "general_heldout.jsonl", 20),
    )
    evaluate = ("evaluate", "--model", MODEL, "--mask", path, "--dtype", "float32")
    run = excise(
        *(*evaluate, "--card", "--text", f"one={text}", "--text", text, "--neutral", neutral, "--text-limit", 15),
        *("--prompts", prompts, "--samples", 25, "--temperature", 1, "--max-new-tokens", 8, "--margin", "kl=9"),
        "--json",
    )
    assert run.returncode == 0, run.stderr
    made = json.loads(run.stdout)["card"]
    found = {each["measure"]: each for each in made["statements"]}
    assert found["one: perplexity"]["items"] == 15
    assert found["one: perplexity"]["difference"] == found["t: perplexity"]["difference"]
    assert found["one: KL, nats a token"]["not_worse"] == "yes"
    assert found["answers: tokens"]["items"] == 8
    assert {"own answers: top-1 agreement", "random copies: accuracy"} <= set(found)
    behaviour = {each["measure"]: each for each in made["behaviour"]}
    assert behaviour["expected maximum toxicity"]["before"] >= behaviour["expected maximum toxicity"]["after"]
    assert behaviour["toxicity probability"]["items"] == 6
    shown = excise(*evaluate, "--card", "--text", text, "--max-new-tokens", 8).stdout
    assert "t: top-1 agreement" in shown
    assert "not shown" in shown or "yes" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--card",), "give --mask"),
        (("--text", "a=t.txt", "--text", "b=t.txt"), "add --card"),
        (("--text", "t.txt", "--neutral", "n.txt"), "add --card"),
        (("--text", "t.txt", "--margin", "kl=1"), "add --card"),
        (("--text", "t.txt", "--text", "other/t.txt", "--card"), "two texts are called 't'"),
    ],
)
def test_what_belongs_to_a_card_is_refused_without_one(arguments, message):
    run = excise("evaluate", "--model", MODEL, *arguments)
    assert run.returncode == 2
    assert message in " ".join(run.stderr.split())


def test_weights_can_be_cut_too(tmp_path):
    behaviour, general = (
        few(tmp_path / "b.jsonl", "insult.jsonl", 12),
        few(tmp_path / "g.txt.jsonl", "general.jsonl", 12),
    )
    run = excise(
        *("correct", "--model", MODEL, "--behaviour", behaviour, "--general", general, "--granularity", "weight"),
        *("--fraction", 0.001, "--name", "w", "-o", tmp_path / "w.safetensors", "--dtype", "float32"),
        "--accept-worse",  # three prompts held out say nothing for certain
    )
    assert run.returncode == 0, run.stderr
    assert masks.load(tmp_path / "w.safetensors").granularity == "weight"


def test_a_budget_of_perplexity_finds_out_how_much_to_cut(tmp_path):
    behaviour, general = few(tmp_path / "b.jsonl", "insult.jsonl", 60), few(tmp_path / "g.jsonl", "general.jsonl", 60)
    run = excise(
        *("correct", "--model", MODEL, "--behaviour", behaviour, "--general", general, "--threshold", 0.5),
        *("--max-perplexity-increase", "5%", "--rounds", 1, "--criterion", "lrp", "--contrast", "difference"),
        *("--name", "best", "-o", tmp_path / "m.safetensors", "--dtype", "float32", "--json"),
    )
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    mask = masks.load(tmp_path / "m.safetensors")
    assert mask.digest == document["digest"]
    assert document["made"]["search"]["max_perplexity_increase"] == 0.05
    assert document["front"][0]["count"] == 0
    shown = document["measured"]["shown"]
    assert shown["after"][0] < shown["before"][0] / 2


def test_a_behaviour_set_is_built_and_used(tmp_path):
    prompts = few(tmp_path / "p.jsonl", "loop.jsonl", 12)
    with prompts.open("a") as file:
        file.writelines((DATA / "everyday_heldout.jsonl").read_text().splitlines(keepends=True)[:6])
    found = tmp_path / "loops.jsonl"
    run = excise(
        *("references", "--model", MODEL, "--prompts", prompts, "--shows", "repetition", "-o", found),
        *("--held-out", 0.25, "--general", DATA / "general.jsonl", "--json"),
    )
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    kept, held_out = (len(path.read_text().splitlines()) for path in (found, tmp_path / "loops_heldout.jsonl"))
    assert document["candidates"] == 18
    assert kept + held_out == document["kept"]
    assert 8 <= document["kept"] <= 14
    assert json.loads(found.read_text().splitlines()[0]).keys() == {"prompt", "response"}
    run = excise(
        *(
            "correct",
            "--model",
            MODEL,
            "--behaviour",
            found,
            "--general",
            few(tmp_path / "g.jsonl", "general.jsonl", 12),
        ),
        *("--no-filter", "--seed", "response", "--granularity", "head", "--criterion", "gradient", "--count", 3),
        *("--name", "h", "-o", tmp_path / "h.safetensors", "--dtype", "float32", "--accept-worse"),
    )
    assert run.returncode == 0, run.stderr
    assert masks.load(tmp_path / "h.safetensors").counts["heads"] == 3


def test_a_sweep_draws_its_pictures(tmp_path):
    behaviour, general = few(tmp_path / "b.jsonl", "insult.jsonl", 16), few(tmp_path / "g.jsonl", "general.jsonl", 16)
    run = excise(
        *("sweep", "--model", MODEL, "--behaviour", behaviour, "--general", general, "-o", tmp_path / "sweep"),
        *(
            "--counts",
            "5,50",
            "--seeds",
            "0,1",
            "--arm",
            "lrp=lrp",
            "--arm",
            "grad=gradient,sign=signed,contrast=cost",
        ),
        *("--arm", "random=random", "--dtype", "float32"),
    )
    assert run.returncode == 0, run.stderr
    names = {"sweep.csv", "curves.png", "layers.png", "scatter.png", "sweep.html"}
    assert {path.name for path in (tmp_path / "sweep").iterdir()} == names
    assert len((tmp_path / "sweep" / "sweep.csv").read_text().splitlines()) == 2 + 3 * 2 * 2
    assert "best: " in run.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--behaviour": "/no/such/file.jsonl"}, "file.jsonl"),
        ({"--count": "1000000"}, "3072 neurons"),
        ({"--name": "Not A Name"}, "Not A Name"),
        ({"--model": "/no/such/model"}, "/no/such/model"),
        ({"--scorer": "typo"}, "there is no scorer"),
        ({"-o": "/no/such/folder/m.safetensors"}, "cannot be written"),
        ({"--fraction": "0.1"}, "in one way how much to cut"),
        ({"--count": None, "--max-perplexity-increase": "much"}, "write it as 1% or 0.01"),
        ({"--pattern": "4:2", "--count": None}, "4:2"),
        ({"--granularity": "head", "--criterion": "wanda"}, "wanda cannot score heads"),
        ({"--layers": "0-99"}, "no layer 6"),
        ({"--layers": "x"}, "no layer and no range"),
        ({"--modules": "down_proj"}, "neurons have none"),
        ({"--shows": "regex:("}, "no regular expression"),
        ({"--criterion": "random", "--contrast": "cost"}, "reads no data"),
        ({"--shows": "regex:zebra"}, "no response shows the behaviour"),
        ({"--model": "pointer"}, "model.safetensors is git-lfs's pointer to the file; fetch it: git lfs pull"),
        ({"--model": "tokenizer"}, "cannot load the model in"),
        ({"--behaviour": "deep.jsonl"}, "deep.jsonl, line 1: nested too deep"),
    ],
)
def test_a_mistake_is_one_clear_line_and_writes_nothing(tmp_path, change, said):
    general = few(tmp_path / "g.jsonl", "general.jsonl", 8)
    (tmp_path / "deep.jsonl").write_text("[" * 100_000)
    damaged = {"pointer": "model.safetensors", "tokenizer": "tokenizer.json"}.get(change.get("--model", ""))
    if damaged:
        shutil.copytree(MODEL, tmp_path / change["--model"])
        (tmp_path / change["--model"] / damaged).write_text("version https://git-lfs.github.com/spec/v1\n")
    change = {
        option: tmp_path / value if (tmp_path / (value or "x")).exists() else value for option, value in change.items()
    }
    options = {
        "--model": MODEL,
        "--behaviour": few(tmp_path / "b.jsonl", "insult.jsonl", 8),
        "--general": general,
        "--count": "10",
        "--name": "detox",
        "-o": tmp_path / "m.safetensors",
        **change,
    }
    run = excise("correct", *(part for pair in options.items() if pair[1] is not None for part in pair))
    assert run.returncode in (1, 2)
    assert said in " ".join(run.stderr.replace("│", " ").split()), run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "m.safetensors").exists()


@pytest.mark.engine
def test_the_demo_tells_the_whole_story_and_leaves_no_process(tmp_path):
    run = excise("demo", "--out", tmp_path, "--json", limit=480)
    assert run.returncode == 0, run.stderr[-3000:]
    result = json.loads(run.stdout)
    assert [goal for goal in result["goals"] if not goal["reached"]] == []
    online = {row["variant"]: row for row in result["online"]["variants"]}
    assert online["detox@1"]["toxic"] < online["base"]["toxic"] / 2
    assert online["fluent@1"]["repetitive"] < online["base"]["repetitive"] / 2
    for report in result["online"]["experiments"].values():
        arms = [variant["responses"] for variant in report["variants"]]
        assert min(arms) > sum(arms) / 4
    assert result["online"]["route"] == "detox@1"
    for picture in ("demo.png", "report.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    assert "a-b" in (tmp_path / "report.html").read_text()
    assert masks.load(tmp_path / "detox.safetensors").digest
    deadline = time.monotonic() + 10
    while using(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert using(tmp_path) == []


def using(folder: Path) -> list[str]:
    """Processes that name ``folder`` in their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes()
        except OSError:
            continue
        if str(folder).encode() in line:
            found.append(line.decode(errors="replace"))
    return found
