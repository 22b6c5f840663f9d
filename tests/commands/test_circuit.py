"""`excise circuit` as it is typed."""

import csv
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import masks
from correction.ablation import ablated
from correction.circuits import task_rows
from excise import app
from tests.correction.conftest import WORDS


def excise(*command):
    return CliRunner().invoke(app, list(map(str, command)))


@pytest.fixture
def pairs(tiny, tmp_path):
    """Pairs that the tiny model gets right, for of two words the likelier one is called correct; and two to drop."""
    generator = np.random.default_rng(1)
    lines = []
    for _ in range(36):
        clean, corrupted = (" ".join(generator.choice(WORDS, 5)) for _ in range(2))
        one, other = generator.choice(WORDS, 2, replace=False)
        with torch.no_grad():
            said = tiny.model(torch.tensor([tiny.tokenizer(clean)["input_ids"]])).logits[0, -1]
        ids = [tiny.tokenizer.convert_tokens_to_ids(str(word)) for word in (one, other)]
        correct, wrong = (one, other) if said[ids[0]] > said[ids[1]] else (other, one)
        lines.append((clean, corrupted, f" {correct}", f" {wrong}"))
    lines += [lines[0], (*lines[1][:2], " sea key", " sea")]
    path = tmp_path / "pairs.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("clean", "corrupted", "correct", "wrong"), *lines])
    return path


def test_a_mask_comes_out_that_can_be_inspected_and_exported(tiny, pairs, tmp_path):
    output, report = tmp_path / "few.safetensors", tmp_path / "report"
    result = excise(
        "circuit", "--model", tiny.path, "--task", pairs, "--kept", 3, "--criterion", "gradient", "--seeds", "0,1",
        "--tried", 2, "-o", output, "--report", report, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.exception
    document = json.loads(result.stdout)
    mask = masks.load(output)
    assert document["digest"] == mask.digest
    assert (mask.name, mask.counts["heads"]) == ("few", 5)
    circuit = document["made"]["circuit"]
    assert circuit["task"]["dropped"] == {"the same prompt again": 1, "an answer is not one token": 1}
    assert circuit["task"]["size"] == 36
    assert circuit["kept"] == 3
    assert document["measured"]["circuit"]["minimality"]["tried"] == 2
    assert {path.name for path in report.iterdir()} == {"circuit.html", "curves.csv", "curves.png", "parts.png"}
    shown = excise("inspect", output)
    assert shown.exit_code == 0
    assert "5 heads cut" in shown.stdout
    assert "logit(correct) - logit(wrong)" in shown.stdout
    assert "the circuit alone, 12 rows" in shown.stdout
    assert "nothing was measured" not in shown.stdout
    written = excise("export", output, "--model", tiny.path, "--format", "checkpoint", "-o", tmp_path / "whole")
    assert written.exit_code == 0, written.exception
    from correction.models import load

    row = task_rows(tiny, str(pairs)).rows[0]
    alone = load(tmp_path / "whole", device="cpu")
    with torch.no_grad(), ablated(tiny, mask):
        expected = tiny.model(torch.tensor([row.clean])).logits
        torch.testing.assert_close(alone.model(torch.tensor([row.clean])).logits, expected, atol=1e-5, rtol=1e-5)


def test_what_it_measured_is_told_in_words(tiny, pairs, tmp_path):
    result = excise(
        "circuit", "--model", tiny.path, "--task", pairs, "--kept", 3, "--granularity", "neuron", "--seeds", "0,1",
        "--tried", 1, "--beside", "zero", "--ablation", "mean", "-o", tmp_path / "m.safetensors", "--name", "few",
    )  # fmt: skip
    assert result.exit_code == 0, result.exception
    assert "3 of 96 neurons kept" in " ".join(result.stdout.split())
    for said in ("faithfulness, mean ablation: ", "necessity", "accuracy of the circuit: ", "overlap between seeds"):
        assert said in result.stdout
    assert "rows dropped: an answer is not one token: 1, the same prompt again: 1" in result.stdout
    assert masks.load(tmp_path / "m.safetensors").name == "few"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--kept", 3, "--faithfulness", 0.5), "say --faithfulness or --kept, not both"),
        (("--faithfulness", 1.5), "1.5 is no fraction between 0 and 1"),
        (("--modules", "down_proj"), "--modules is for weights"),
        (("--ablation", "noise"), "'noise' is no ablation; there is: zero, mean, counterfactual"),
        (("--beside", "zero,noise"), "'noise' is no ablation"),
        (("--seeds", "a"), "'a' is no list of numbers"),
    ],
)
def test_mistakes_are_told_before_the_model_is_loaded(tmp_path, given, said):
    result = excise("circuit", "--model", "nowhere", "--task", "ioi", "-o", tmp_path / "m.safetensors", *given)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())


def test_a_task_that_the_model_cannot_do_is_refused(tiny, pairs, tmp_path):
    text = pairs.read_text().splitlines()
    swapped = [",".join([*line.split(",")[:2], *reversed(line.split(",")[2:])]) for line in text[1:]]
    pairs.write_text("\n".join([text[0], *swapped]) + "\n")
    result = excise("circuit", "--model", tiny.path, "--task", pairs, "-o", tmp_path / "m.safetensors")
    assert result.exit_code == 1
    assert "the model is right in 0 of 36 rows (0.0%, interval 0.0% to 9.6%)" in str(result.exception)
    assert not (tmp_path / "m.safetensors").exists()
