"""Text classifiers: real ones of transformers, tiny and with random weights."""

import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    __version__,
)

from behaviours import ClassifierScorer, ScorerError, ToxicityScorer, load_scorer

WORDS = [
    *("the", "a", "cat", "dog", "sea", "key", "lamp", "book"),
    *("ship", "tree", "red", "blue", "old", "new", "small", "big"),
]
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
TEXTS = ["the red cat", "a dog", "the old ship the big tree a small blue lamp", "key"]
SIZES = {
    "vocab_size": len(WORDS) + len(SPECIAL),
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
    "initializer_range": 0.8,  # labels far from even
}


def save_tokenizer(folder, **changes):
    core = Tokenizer(models.WordLevel({word: n for n, word in enumerate(SPECIAL + WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    given = {"pad_token": "[PAD]", "unk_token": "[UNK]", "model_max_length": 16, **changes}
    PreTrainedTokenizerFast(tokenizer_object=core, **given).save_pretrained(folder)


def save_classifier(folder, labels, **changes):
    torch.manual_seed(3)
    config = BertConfig(**SIZES, id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)})
    for name, value in changes.items():
        setattr(config, name, value)
    BertForSequenceClassification(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def logits(folder, text):
    """The model's own outputs for one text alone: float64 (labels,)."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = [1, *((SPECIAL + WORDS).index(word) for word in text.split()), 2][:16]
    if len(text.split()) > 14:
        ids[-1] = 2
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].double()


def test_two_labels_share_the_softmax(tmp_path):
    folder = save_classifier(tmp_path / "tiny-toxic", ["neutral", "Toxic"])
    scorer = load_scorer(f"hf:{folder}")
    assert isinstance(scorer, ToxicityScorer)
    assert (scorer.name, scorer.version, scorer.threshold) == (
        "hf:tiny-toxic@Toxic",
        f"transformers {__version__}",
        0.5,
    )
    scores = scorer.score(TEXTS)
    assert scores.dtype == np.float64
    expected = [float(logits(folder, text).softmax(-1)[1]) for text in TEXTS]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert np.ptp(scores) > 0.05


@pytest.mark.parametrize(("labels", "asked"), [(["insult", "toxicity", "threat"], ""), (["hate"], "@hate")])
def test_labels_that_do_not_exclude_each_other_go_through_the_sigmoid(tmp_path, labels, asked):
    problem = "multi_label_classification" if len(labels) > 1 else None
    folder = save_classifier(tmp_path / "many", labels, problem_type=problem)
    expected = [float(logits(folder, text).sigmoid()[len(labels) // 2]) for text in TEXTS]
    np.testing.assert_allclose(load_scorer(f"hf:{folder}{asked}").score(TEXTS), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["LABEL_0", "LABEL_1"], "LABEL_1"),
        (["nothate", "hate"], "hate"),
        (["offensive", "HAP", "none"], "HAP"),
        (["hate", "toxic"], "toxic"),
    ],
)
def test_a_label_that_says_toxic_is_found(tmp_path, labels, found):
    assert load_scorer(f"hf:{save_classifier(tmp_path / 'm', labels)}").name == f"hf:m@{found}"


@pytest.mark.parametrize("labels", [["good", "bad"], ["LABEL_0", "LABEL_1", "LABEL_2"]])
def test_where_no_label_says_toxic_one_must_be_named(tmp_path, labels):
    folder = save_classifier(tmp_path / "m", labels)
    with pytest.raises(ScorerError, match=f"has the labels {', '.join(labels)}, none .*@{labels[0]}"):
        load_scorer(f"hf:{folder}")
    assert load_scorer(f"hf:{folder}@{labels[1].upper()}").name == f"hf:m@{labels[1]}"
    with pytest.raises(ScorerError, match=f"no label 'worse'; its labels are: {', '.join(labels)}"):
        load_scorer(f"hf:{folder}@worse")


def test_a_folder_with_an_at_sign_is_a_folder(tmp_path):
    folder = save_classifier(tmp_path / "toxic@2", ["no", "toxic"])
    assert load_scorer(f"hf:{folder}").name == "hf:toxic@2@toxic"
    assert load_scorer(f"hf:{folder}@no").name == "hf:toxic@2@no"


def test_a_score_is_that_of_the_text_alone_in_any_batch(tmp_path):
    scorer = ClassifierScorer(str(save_classifier(tmp_path / "m", ["no", "toxic"])))
    texts = [" ".join(WORDS[n % 16] for n in range(k, k + 1 + k % 12)) for k in range(80)]
    alone = [float(scorer.score([text])[0]) for text in texts]
    np.testing.assert_allclose(scorer.score(texts), alone, rtol=1e-5)


def test_blank_texts_score_nothing(tmp_path):
    scorer = ClassifierScorer(str(save_classifier(tmp_path / "m", ["no", "toxic"])))
    assert scorer.score(["", " \n"]).tolist() == [0.0, 0.0]
    assert scorer.score([]).shape == (0,)
    assert scorer.score(["", "a dog"])[1] > 0


def test_a_text_longer_than_the_model_reads_is_cut(tmp_path):
    folder = save_classifier(tmp_path / "m", ["no", "toxic"])
    save_tokenizer(folder, model_max_length=10**30)  # as a tokenizer that was never told
    long = " ".join(WORDS * 5)
    expected = float(logits(folder, " ".join(WORDS[:14])).softmax(-1)[1])
    np.testing.assert_allclose(ClassifierScorer(str(folder)).score([long]), expected, rtol=1e-5)


def test_a_roberta_reads_fewer_tokens_than_it_has_positions(tmp_path):
    config = RobertaConfig(**SIZES, pad_token_id=0, id2label={0: "no", 1: "toxic"}, label2id={"no": 0, "toxic": 1})
    RobertaForSequenceClassification(config).save_pretrained(tmp_path / "m")
    save_tokenizer(tmp_path / "m", model_max_length=10**30)
    assert 0 < ClassifierScorer(str(tmp_path / "m")).score([" ".join(WORDS * 5)])[0] < 1


def test_a_tokenizer_without_padding_reads_one_text_at_a_time(tmp_path):
    folder = save_classifier(tmp_path / "m", ["no", "toxic"])
    expected = ClassifierScorer(str(folder)).score(TEXTS)
    save_tokenizer(folder, pad_token=None)
    np.testing.assert_allclose(ClassifierScorer(str(folder)).score(TEXTS), expected, rtol=1e-5)


def test_a_model_without_a_trained_head_is_refused(tmp_path):
    BertForMaskedLM(BertConfig(**SIZES)).save_pretrained(tmp_path / "m")
    save_tokenizer(tmp_path / "m")
    with pytest.raises(ScorerError, match=r"is no text classifier: its checkpoint lacks .*classifier"):
        load_scorer(f"hf:{tmp_path / 'm'}")


def test_a_regression_is_refused(tmp_path):
    folder = save_classifier(tmp_path / "m", ["toxicity"], problem_type="regression")
    with pytest.raises(ScorerError, match="is a regression"):
        load_scorer(f"hf:{folder}")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ScorerError, match="cannot be loaded"):
        load_scorer(f"hf:{tmp_path}")


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ScorerError, match="pip install transformers"):
        load_scorer("hf:owner/name")
