"""Perplexity of texts: exp of the mean loss per predicted token."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from correction.errors import EvaluationError
from correction.evaluation.bootstrap import Estimate, Floats, bootstrap
from correction.models import LoadedModel
from correction.progress import Progress, silent
from correction.references import ReferenceSet
from correction.tokenisation import batches


@dataclass(frozen=True)
class Perplexity:
    """Perplexity of a set of passages.

    Attributes:
        losses: summed negative log-likelihood of each passage, in nats: float64 (passages,).
        tokens: predicted tokens of each passage, float64 (passages,).
        estimate: exp(Σ losses / Σ tokens), with its bootstrap interval over passages.
    """

    losses: NDArray[np.float64]
    tokens: NDArray[np.float64]
    estimate: Estimate


@torch.no_grad()
def perplexity(
    loaded: LoadedModel,
    texts: ReferenceSet,
    *,
    window: int | None = None,
    tokens: int = 4096,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Progress = silent,
) -> Perplexity:
    """Read each text as it stands, in windows that do not overlap; the first token of a window is not predicted.

    Args:
        window: tokens of a window; by default the whole context.
        tokens: size of a batch, padding included.

    Raises:
        EvaluationError: a window longer than the context, or no token to predict.
    """
    width = window or loaded.context_length
    if not 2 <= width <= loaded.context_length:
        raise EvaluationError(f"window is {width}; it must be from 2 to the context of {loaded.context_length}")
    windows, owners = [], []
    for passage, text in enumerate(texts.texts):
        ids = list(loaded.tokenizer(text, verbose=False)["input_ids"])
        for start in range(0, len(ids) - 1, width):
            if len(part := ids[start : start + width]) > 1:
                windows.append(part)
                owners.append(passage)
    losses, counts = np.zeros(len(texts)), np.zeros(len(texts))
    done = 0
    for places, batch in batches(windows, tokens, loaded.device):
        padded = batch.input_ids
        logits = loaded.model(input_ids=padded, use_cache=False).logits[:, :-1].float()
        loss = F.cross_entropy(logits.flatten(0, 1), padded[:, 1:].flatten(), reduction="none").view(len(padded), -1)
        real = torch.arange(1, padded.shape[1], device=padded.device) < batch.lengths[:, None]
        sums = (loss.double() * real).sum(-1).tolist()
        for place, total in zip(places, sums, strict=True):
            losses[owners[place]] += total
            counts[owners[place]] += len(windows[place]) - 1
        done += len(places)
        progress("perplexity", done, len(windows))
    if not counts.sum():
        raise EvaluationError(f"{texts.name}: no text is two tokens long, so there is nothing to predict")
    estimate = bootstrap(of_passages, losses, counts, confidence=confidence, seed=seed)
    return Perplexity(losses, counts, estimate)


def of_passages(losses: Floats, tokens: Floats) -> Floats:
    """Perplexity of passages along the last axis."""
    return np.exp(losses.sum(-1) / np.maximum(tokens.sum(-1), 1))


def increase(losses_before: Floats, losses_after: Floats, tokens: Floats) -> Floats:
    """Perplexity after / perplexity before − 1, along the last axis."""
    return np.expm1((losses_after - losses_before).sum(-1) / np.maximum(tokens.sum(-1), 1))
