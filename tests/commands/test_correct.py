"""`excise correct` on the tiny model, in this process: what it does by default, and what it does not write."""

import json

import pytest
from typer.testing import CliRunner

import masks
from commands.correct_run import HARMFUL
from correction.data.behaviour_set import answer
from correction.data.detectors import RegexDetector
from correction.data.references import ReferenceSet
from correction.models import load
from excise import app
from masks import harm
from tests.correction.conftest import WORDS
from tests.correction.search.test_mask_search import ASKING, PROMPTS, TEXTS
from tests.correction.test_sharding import MODEL, few


def lines(path, key, references):
    path.write_text("".join(json.dumps({key: each}) + "\n" for each in references.texts))
    return path


@pytest.fixture(scope="module")
def word(tiny_folder):
    """A word that many responses hold, and not all."""
    tiny = load(tiny_folder, device="cpu")
    said = [
        set(each.text.split()) for each in answer(tiny, PROMPTS, RegexDetector("x"), **ASKING.as_arguments()).responses
    ]
    counts = {each: sum(each in words for words in said) for each in WORDS}
    return min(counts, key=lambda each: abs(counts[each] - len(said) / 2))


@pytest.fixture
def correct(tmp_path, tiny_folder, word):
    """Run the command; its result, and the mask that it wrote, if it did."""

    def run(*more):
        output = tmp_path / "m.safetensors"
        output.unlink(missing_ok=True)
        given = {
            "--model": tiny_folder,
            "--behaviour": lines(tmp_path / "b.jsonl", "prompt", PROMPTS),
            "--general": lines(tmp_path / "g.jsonl", "text", TEXTS),
            "--shows": rf"regex:\b{word}\b",
            "--name": "quiet",
            "-o": output,
            "--max-new-tokens": 6,
        }
        arguments = [str(part) for pair in given.items() for part in pair] + list(map(str, more))
        result = CliRunner().invoke(app, ["correct", *arguments], env={"COLUMNS": "200"})
        return result, masks.load(output) if output.exists() else None

    return run


def flat(text):
    return " ".join(text.replace("│", " ").split())


def test_a_mask_that_does_no_good_is_not_written(correct):
    result, mask = correct("--count", 1, "--json")
    assert (result.exit_code, mask) == (HARMFUL, None) == (3, None)
    document = json.loads(result.stdout)
    assert document["written"] is False
    assert document["warnings"] == list(harm.derived(document["measured"]))
    assert document["warnings"][0].startswith("The behaviour did not fall for certain: ")
    assert document["warnings"][0] in result.stderr
    assert "No mask was written. " in result.stderr
    assert "--accept-worse" in result.stderr


def test_it_is_written_where_that_is_asked_for_and_says_what_is_against_it(correct):
    result, mask = correct("--count", 1, "--accept-worse", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["written"] is True
    assert document["digest"] == mask.digest
    assert list(mask.meta.measured["warnings"]) == document["warnings"] != []
    assert harm.warnings(mask.meta.measured) == tuple(document["warnings"])
    assert document["warnings"][0] in result.stderr
    assert "No mask was written" not in result.stderr


def test_the_default_is_a_search_at_one_percent(correct):
    result, mask = correct("--accept-worse", "--json")
    if mask is None:
        assert "for at most 1.00% more perplexity" in str(result.exception)
        return
    made = mask.meta.made
    assert made["criterion"] == "search"
    assert made["search"]["max_perplexity_increase"] == 0.01
    assert made["search"]["refinement"]["candidates"] == 2000
    assert [each["criterion"] for each in made["rankings"]] == ["gradient", "lrp", "lrp"]


def test_a_search_shows_its_front(correct):
    result, mask = correct("--max-perplexity-increase", "300%", "--no-refine", "--criterion", "lrp", "--accept-worse")
    assert result.exit_code == 0, result.stderr
    assert "Pareto front, on the validation sets" in result.stdout
    assert mask.digest in result.stdout
    assert mask.meta.made["search"]["refinement"] is None
    assert [each["contrast"] for each in mask.meta.made["rankings"]] == ["cost"]


def test_what_costs_more_than_is_accepted_is_not_written(tmp_path):
    behaviour, general = few(tmp_path / "b.jsonl", "insult.jsonl", 40), few(tmp_path / "g.jsonl", "general.jsonl", 40)
    output = tmp_path / "m.safetensors"
    command = ["correct", "--model", MODEL, "--behaviour", behaviour, "--general", general, "--dtype", "float32"]
    command += ["--count", 50, "--name", "m", "-o", output, "--max-new-tokens", 12, "--accept-cost", "0.01%", "--json"]
    result = CliRunner().invoke(app, list(map(str, command)))
    assert result.exit_code == HARMFUL, result.stderr
    document = json.loads(result.stdout)
    assert document["measured"]["difference"]["perplexity"][0] > 0.0001
    assert "Perplexity rose by" in document["warnings"][0]
    assert not output.exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--rounds", 2, "--count", 3), "--rounds is for a search"),
        (("--max-perplexity-increase", "2%", "--fraction", 0.1), "--max-perplexity-increase is for a search"),
        (("--max-kl", 0.1, "--count", 3), "--max-kl is for a search"),
        (("--validation", 0.2, "--count", 3), "--validation is for a search"),
        (("--refine", "--count", 3), "--refine is for a search"),
        (("--no-refine", "--count", 3), "--refine is for a search"),
        (("--granularity", "head", "--granularity", "neuron", "--count", 3), "several --granularity is for a search"),
        (("--scope", "layer"), "leave --scope out, or say --count"),
        (("--no-filter",), "leave --no-filter out, or say --count"),
        (("--no-filter", "--count", 3), "--shows and --threshold say what the filter keeps"),
        (("--rank", 2), "--rank is of weight matrices: give --granularity weight"),
        (("--rank", 2, "--count", 3, "--granularity", "head"), "--rank is of weight matrices"),
        (("--pattern", "2:4"), "--pattern is for weights"),
        (("--random-seed", 1, "--criterion", "lrp"), "lrp, contrast cost, has no use for --random-seed"),
        (("--sign", "signed", "--criterion", "wanda"), "has no use for --sign"),
        (("--contrast", "cost", "--top-behaviour", 0.1, "--top-general", 0.1), "leave --contrast out"),
        (("--accept-cost", "2"), "write it as 1% or 0.01"),
        (("--accept-cost", "no"), "write it as 1% or 0.01"),
        (("--max-perplexity-increase", "0%"), "write it as 1% or 0.01"),
    ],
)
def test_an_option_that_would_have_no_say_is_refused(correct, given, said):
    result, mask = correct(*given)
    assert (result.exit_code, mask) == (2, None)
    assert said in flat(result.stderr), result.stderr


def test_a_prompt_that_is_too_long_is_left_out_and_counted(correct, tmp_path):
    _, expected = correct("--count", 1, "--accept-worse", "--json")
    given = PROMPTS.texts[0], " ".join(["sea"] * 80), *PROMPTS.texts[1:]
    long = lines(tmp_path / "long.jsonl", "prompt", ReferenceSet(given, "long", "prompt"))
    result, mask = correct("--count", 1, "--accept-worse", "--json", "--behaviour", long)
    assert result.exit_code == 0, result.stderr
    warning = f"long.jsonl: 1 of {len(given)} prompts are left out, too long for the context of 64 tokens"
    assert warning in flat(result.stderr)
    assert json.loads(result.stdout)["made"]["too_long"] == mask.meta.made["too_long"] == 1
    assert "too_long" not in expected.meta.made
    assert mask.neurons.keys() == expected.neurons.keys()


def test_evaluate_leaves_such_prompts_out_too(tmp_path, tiny_folder):
    prompts = lines(tmp_path / "p.jsonl", "prompt", ReferenceSet(("who", " ".join(["sea"] * 80)), "p", "prompt"))
    asked = ["--model", str(tiny_folder), "--prompts", str(prompts), "--max-new-tokens", "6", "--json"]
    result = CliRunner().invoke(app, ["evaluate", *asked])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["too_long"] == 1
    assert json.loads(result.stdout)["base"]["toxic"][:2] == [0, 1]
