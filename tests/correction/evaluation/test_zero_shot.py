import importlib
import json
import warnings

import pytest
import torch

import masks
from correction.errors import EvaluationError
from correction.evaluation import zero_shot as module
from correction.evaluation.zero_shot import tasks

ITEMS = [
    ("the cat sees", ["a dog", "a key under the sea", "red"], 0),
    ("the old ship", ["opens", "likes a book and a lamp", "night"], 1),
    ("tell me about", ["the sea", "why you", "small"], 0),
    ("what is", ["a key", "old big sees", "the new tree over the sea"], 2),
    ("a small dog", ["finds the lamp", "you", "with"], 1),
    ("please open", ["the red book", "why", "a calm day and a calm night"], 0),
]


@pytest.fixture(scope="module")
def task_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    data = folder / "items.jsonl"
    data.write_text("".join(json.dumps({"text": t, "choices": c, "answer": a}) + "\n" for t, c, a in ITEMS))
    task = {
        "task": "made_up",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
        ],
        "metadata": {"version": 2.0},
    }
    (folder / "made_up.yaml").write_text(json.dumps(task))  # JSON is YAML
    return folder


@pytest.fixture
def harness(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the harness are not ours
        pytest.importorskip("lm_eval", reason="lm-eval, an optional library, is not installed")
        yield importlib.import_module("lm_eval")


def by_hand(loaded):
    """The two accuracies: by summed log-likelihood of each choice, and by that over the choice's characters."""
    right, right_by_length = [], []
    for text, choices, answer in ITEMS:
        scores = []
        for choice in choices:
            start = loaded.tokenizer(text)["input_ids"]
            ids = start + loaded.tokenizer(choice)["input_ids"]
            with torch.no_grad():
                logs = loaded.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            scores.append(sum(float(logs[p - 1, ids[p]]) for p in range(len(start), len(ids))))
        right.append(max(range(3), key=scores.__getitem__) == answer)
        right_by_length.append(max(range(3), key=lambda n: scores[n] / len(choices[n])) == answer)
    return sum(right) / 6, sum(right_by_length) / 6


def test_a_task_gives_the_figures_of_a_reckoning_by_hand(tiny, task_folder, harness):
    results = tasks(tiny, ["made_up"], task_folder=task_folder, batch_size=4)
    assert set(results) == {"made_up"}
    figures = results["made_up"]
    assert {key: figures[key] for key in ("version", "few_shot", "items", "lm_eval")} == {
        "version": 2.0,
        "few_shot": 0,
        "items": 6,
        "lm_eval": harness.__version__,
    }
    accuracy, by_length = by_hand(tiny)
    assert figures["metrics"]["acc"]["value"] == pytest.approx(accuracy)
    assert figures["metrics"]["acc_norm"]["value"] == pytest.approx(by_length)
    spread = (accuracy * (1 - accuracy) / 5) ** 0.5
    assert figures["metrics"]["acc"]["stderr"] == pytest.approx(spread)
    json.dumps(results)


def test_a_mask_is_on_while_a_task_runs_and_off_after(tiny, task_folder, harness):
    mask = masks.for_model(tiny.path, "m", neurons={0: range(48), 1: range(48)})
    before = tasks(tiny, ["made_up"], task_folder=task_folder)
    after = tasks(tiny, ["made_up"], task_folder=task_folder, mask=mask)
    assert after != before
    assert tasks(tiny, ["made_up"], task_folder=task_folder) == before
    assert tiny.tokenizer.pad_token == "<pad>"


def test_a_limit_takes_the_first_items(tiny, task_folder, harness):
    assert tasks(tiny, ["made_up"], task_folder=task_folder, limit=2)["made_up"]["items"] == 2


def test_tasks_that_do_not_exist_are_named(tiny, task_folder, harness):
    with pytest.raises(EvaluationError, match="has no task 'made_down'"):
        tasks(tiny, ["made_up", "made_down"], task_folder=task_folder)


def test_the_missing_library_is_named_with_its_remedy(tiny, monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(module.importlib, "import_module", missing)
    with pytest.raises(EvaluationError, match=r"No module named 'lm_eval'.*pip install 'lm-eval\[hf\]'"):
        tasks(tiny, ["boolq"])


@pytest.mark.parametrize(
    ("options", "said"),
    [({"limit": 0}, "limit is 0"), ({"batch_size": 0}, "batch_size is 0"), ({"few_shot": -1}, "few")],
)
def test_numbers_that_cannot_be_are_refused_before_anything_is_loaded(tiny, options, said):
    with pytest.raises(EvaluationError, match=said):
        tasks(tiny, ["boolq"], **options)


def test_a_task_folder_must_exist(tiny, tmp_path):
    with pytest.raises(EvaluationError, match="no such folder"):
        tasks(tiny, ["boolq"], task_folder=tmp_path / "none")


def test_figures_keep_their_filter_and_lack_of_an_error():
    metrics = module._metrics(
        {"alias": "g", "acc,none": 0.5, "acc_stderr,none": "N/A", "match,strict": 1, "match_stderr,strict": 0.1}
    )
    assert metrics == {"acc": {"value": 0.5, "stderr": None}, "match,strict": {"value": 1.0, "stderr": 0.1}}
