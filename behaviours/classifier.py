"""Scores by a text classifier of the Hugging Face hub, or of a folder."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behaviours.scorer import ScorerError

LABELS = ("toxic", "toxicity", "hate", "hap", "offensive")
"""Labels that are taken where none is named, the first that a model has; then LABEL_1, of a model with two labels."""

_BATCH = 32


class ClassifierScorer:
    """A text-classification model of `transformers`: the score of a text is the probability of one label.

    The probability is the label's sigmoid where the model's labels do not exclude each other (`problem_type` is
    `multi_label_classification`, or there is one label), else its share of the softmax. A blank text scores 0.0. A
    text longer than the model reads is cut at its end. It runs on the CPU in float32: in a service the accelerator
    belongs to the engine.

    Attributes:
        name: `hf:MODEL@LABEL`, of a folder its last part.
        version: The revision of the hub where it is known, and that of transformers.
    """

    threshold = 0.5

    def __init__(self, model: str, label: str | None = None) -> None:
        """Load a model.

        Args:
            model: A folder, or a repository of the hub.
            label: Its name in the model's config, in any case; by default the first of `LABELS` that the model has.

        Raises:
            ScorerError: The model cannot be loaded, is no classifier, or has no such label.
        """
        if not model:
            raise ScorerError("the scorer 'hf:' has no model; write it as hf:MODEL[@LABEL], a folder or a hub id")
        try:
            library = importlib.import_module("transformers")
            self._torch = importlib.import_module("torch")
        except ImportError as error:
            raise ScorerError(f"the scorer 'hf:{model}' needs more: pip install transformers torch") from error
        folder = Path(model).expanduser()
        path = str(folder) if folder.is_dir() else model
        try:
            self._tokenizer = library.AutoTokenizer.from_pretrained(path)
            self._model, loading_info = library.AutoModelForSequenceClassification.from_pretrained(
                path, dtype=self._torch.float32, output_loading_info=True
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise ScorerError(f"the scorer 'hf:{model}' cannot be loaded: {error}") from error
        if loading_info["missing_keys"]:  # transformers would go on with random numbers
            raise ScorerError(
                f"the scorer 'hf:{model}' is no text classifier: its checkpoint lacks "
                f"{', '.join(sorted(loading_info['missing_keys'])[:4])}"
            )
        self._model.eval()
        config = self._model.config
        self._column, chosen = _label(config.id2label, label, model)
        self._exclusive = config.problem_type != "multi_label_classification" and config.num_labels > 1
        if config.problem_type == "regression":
            raise ScorerError(f"the scorer 'hf:{model}' is a regression: its outputs are no probabilities")
        self._limit = _limit(self._tokenizer, config)
        # Padding must be known to the model, else it would be read.
        padded = self._tokenizer.pad_token_id is not None and getattr(config, "pad_token_id", None) is not None
        self._batch = _BATCH if padded else 1
        self.name = f"hf:{folder.resolve().name if folder.is_dir() else model}@{chosen}"
        revision = getattr(config, "_commit_hash", None)
        library_version = f"transformers {library.__version__}"
        self.version = f"{revision}, {library_version}" if revision else library_version

    @classmethod
    def of(cls, spec: str) -> "ClassifierScorer":
        """The scorer of a spec MODEL[@LABEL]; what is a folder as a whole is taken as one."""
        if "@" not in spec or Path(spec).expanduser().is_dir():
            return cls(spec)
        model, _, label = spec.rpartition("@")
        return cls(model, label)

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Probability of the label in each text: float64 in [0, 1], shape (len(texts),)."""
        scores = np.zeros(len(texts), dtype=np.float64)
        # Texts of like length go together, so that little is padded.
        spoken = sorted((i for i, text in enumerate(texts) if text.strip()), key=lambda i: len(texts[i]))
        for start in range(0, len(spoken), self._batch):
            places = spoken[start : start + self._batch]
            given = self._tokenizer(
                [texts[place] for place in places],
                padding=len(places) > 1,
                truncation=True,
                max_length=self._limit,
                return_tensors="pt",
            )
            with self._torch.inference_mode():
                logits = self._model(**given).logits.double()
            likely = logits.softmax(-1) if self._exclusive else logits.sigmoid()
            scores[places] = likely[:, self._column].numpy()
        return scores


def _label(labels: Mapping[int, str], asked: str | None, model: str) -> tuple[int, str]:
    """The column of a label, and its name as the model has it."""
    columns = {name.casefold(): column for column, name in labels.items()}
    usual = (*LABELS, "label_1") if len(labels) == 2 else LABELS
    for wanted in usual if asked is None else (asked.casefold(),):
        if wanted in columns:
            return columns[wanted], labels[columns[wanted]]
    listed = ", ".join(labels[column] for column in sorted(labels))
    if asked is None:
        raise ScorerError(
            f"the scorer 'hf:{model}' has the labels {listed}, none of which is known to say toxic; "
            f"name the one to score, as hf:{model}@{labels[min(labels)]}"
        )
    raise ScorerError(f"the scorer 'hf:{model}' has no label {asked!r}; its labels are: {listed}")


def _limit(tokenizer: Any, config: Any) -> int:
    """Most tokens that the model reads: the smaller of what its tokenizer and its positions say."""
    positions = getattr(config, "max_position_embeddings", None) or 512
    if "roberta" in config.model_type:  # this family counts its positions from after the padding token's id
        positions -= config.pad_token_id + 1
    return int(min(tokenizer.model_max_length, positions))
