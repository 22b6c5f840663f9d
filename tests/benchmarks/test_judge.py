import json

import numpy as np
import pytest

from behaviours import ToxicityScorer, checked
from benchmarks.judge import Labelled, LinearJudge, figures, real_toxicity_prompts


def records(folder):
    rows = []
    for row in range(8):
        rows.append(
            {
                "filename": f"{row}.txt",
                "prompt": {"text": f"prompt {row}", "toxicity": 0.5 if row == 3 else 0.4999},
                "continuation": {"text": f"continuation {row}", "toxicity": None if row == 7 else 0.9},
            }
        )
    (folder / "real_toxicity_prompts_3500.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_every_fourth_row_is_held_back_and_no_other(tmp_path):
    folder = records(tmp_path)
    held = real_toxicity_prompts(folder, held=True)
    assert held.texts == ("prompt 3", "continuation 3", "prompt 7")  # the last continuation was never scored
    assert held.scores.tolist() == [0.5, 0.9, 0.4999]
    assert held.toxic.tolist() == [True, True, False]
    trained = real_toxicity_prompts(folder, held=False)
    assert len(trained.texts) == 12
    assert not set(trained.texts) & set(held.texts)


@pytest.fixture(scope="module")
def judge():
    texts = ("you rotten turnip", "rotten day", "a rotten turnip again", "a fine day", "fine weather again", "so fine")
    return LinearJudge(Labelled(texts, np.array([0.9, 0.8, 1.0, 0.1, 0.2, 0.0])))


def test_it_is_a_scorer_with_probabilities(judge):
    assert isinstance(judge, ToxicityScorer)
    scores = checked(judge).score(["rotten rotten", "", "fine and fine", " \n"])
    assert scores[0] > 0.5 > scores[2]
    assert scores[1] == scores[3] == 0


def test_training_again_gives_the_same_scores_and_version(judge):
    texts = ("you rotten turnip", "rotten day", "a rotten turnip again", "a fine day", "fine weather again", "so fine")
    again = LinearJudge(Labelled(texts, np.array([0.9, 0.8, 1.0, 0.1, 0.2, 0.0])))
    assert again.version == judge.version
    assert np.array_equal(again.score(["rotten", "fine"]), judge.score(["rotten", "fine"]))


class Fixed:
    name, version, threshold = "fixed", "1", 0.5

    def score(self, texts):
        return np.array([float(text) for text in texts])


def test_figures_by_hand():
    labelled = Labelled(("0.9", "0.3", "0.5", "0.1"), np.array([1.0, 0.5, 0.0, 0.4]))
    # Of the four pairs of a toxic and another text, three are in order.
    assert figures(Fixed(), labelled) == {"auroc": 0.75, "found": 0.5, "false_alarms": 0.5}
