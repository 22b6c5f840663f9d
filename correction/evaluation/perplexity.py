"""Perplexity of texts: exp of the mean loss per predicted token.

Two protocols:

- `passages`: each text as it stands, alone.
- `joined`: all texts joined by blank lines, tokenised once and cut into windows of equal size; what is left over is
  dropped. This is the WikiText-2 perplexity of GPTQ (Frantar et al. 2023) and Wanda (Sun et al. 2024, `lib/eval.py`):
  exp of the mean over windows of each window's mean loss. Their text is the split's rows with the blank ones among
  them; a set that has lost its blank rows gives another figure. Join the rows and give them as one text for the same.

Either way windows do not overlap, and the first token of a window is not predicted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from correction.choices import Protocol
from correction.data.references import ReferenceSet
from correction.data.tokenisation import batches
from correction.errors import EvaluationError
from correction.models import LoadedModel
from correction.progress import Progress, silent
from stats.estimates import Estimate, Floats, bootstrap


@dataclass(frozen=True)
class Perplexity:
    """Perplexity of a set of texts. Its items are the texts, or the windows if they were joined.

    Attributes:
        losses: Summed negative log-likelihood of each item, in nats: float64 (items,).
        tokens: Predicted tokens of each item, float64 (items,).
        estimate: exp(Σ losses / Σ tokens), with its bootstrap interval over items.
        protocol: `passages` or `joined`.
        window: Tokens of a window; None where passages were read in windows of the whole context.
    """

    losses: NDArray[np.float64]
    tokens: NDArray[np.float64]
    estimate: Estimate
    protocol: Protocol = "passages"
    window: int | None = None


def perplexity(
    loaded: LoadedModel,
    texts: ReferenceSet,
    *,
    protocol: Protocol = "passages",
    window: int | None = None,
    tokens: int = 4096,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Progress = silent,
) -> Perplexity:
    """Read the texts and take their perplexity.

    Args:
        loaded: The model.
        texts: What is read.
        protocol: `passages` or `joined`, as above.
        window: Tokens of a window; by default the whole context.
        tokens: Tokens of a batch, padding included: it changes time and memory, not the result.
        confidence: Of the interval.
        seed: Of the bootstrap.
        progress: Called after every batch.

    Raises:
        EvaluationError: An unknown protocol, a window longer than the context, no token to predict, or joined texts
            that do not fill one window.
    """
    if protocol not in get_args(Protocol):
        raise EvaluationError(f"there is no protocol {protocol!r}; there is: {', '.join(get_args(Protocol))}")
    width = loaded.context_length if window is None else window
    if not 2 <= width <= loaded.context_length:
        raise EvaluationError(f"window is {width}; it must be from 2 to the context of {loaded.context_length}")
    windows: Sequence[Sequence[int]]
    if protocol == "joined":
        windows = joined_windows(loaded, texts, width)
        owners: Sequence[int] = range(len(windows))
    else:
        windows, owners = _passages(loaded, texts, width)
    size = len(windows) if protocol == "joined" else len(texts)
    losses, counts = _losses(loaded, windows, owners, size, tokens, progress)
    estimate = bootstrap(of_passages, losses, counts, confidence=confidence, seed=seed)
    return Perplexity(losses, counts, estimate, protocol, width if protocol == "joined" else window)


def of_passages(losses: Floats, tokens: Floats) -> Floats:
    """Perplexity of items along the last axis."""
    return np.exp(losses.sum(-1) / np.maximum(tokens.sum(-1), 1))


def increase(losses_before: Floats, losses_after: Floats, tokens: Floats) -> Floats:
    """Perplexity after / perplexity before − 1, along the last axis."""
    return np.expm1((losses_after - losses_before).sum(-1) / np.maximum(tokens.sum(-1), 1))


def _passages(loaded: LoadedModel, texts: ReferenceSet, width: int) -> tuple[list[list[int]], Sequence[int]]:
    """Windows of at most `width` tokens, and the text that each is of."""
    windows, owners = [], []
    for passage, text in enumerate(texts.texts):
        ids = list(loaded.tokenizer(text, verbose=False)["input_ids"])
        for start in range(0, len(ids) - 1, width):
            if len(part := ids[start : start + width]) > 1:
                windows.append(part)
                owners.append(passage)
    if not windows:
        raise EvaluationError(f"{texts.name}: no text is two tokens long, so there is nothing to predict")
    return windows, owners


def joined_windows(loaded: LoadedModel, texts: ReferenceSet, width: int) -> list[list[int]]:
    """Windows of `width` tokens, each an item of its own; see the protocol `joined`.

    Raises:
        EvaluationError: The texts do not fill one.
    """
    ids = list(loaded.tokenizer("\n\n".join(texts.texts), verbose=False)["input_ids"])
    windows = [ids[start : start + width] for start in range(0, len(ids) - width + 1, width)]
    if not windows:
        raise EvaluationError(
            f"{texts.name}: the joined texts have {len(ids)} tokens, less than one window of {width}; "
            "give more text or a smaller window"
        )
    return windows


@torch.no_grad()
def _losses(
    loaded: LoadedModel,
    windows: Sequence[Sequence[int]],
    owners: Sequence[int],
    size: int,
    tokens: int,
    progress: Progress,
) -> tuple[Floats, Floats]:
    """Summed loss and number of predictions of each of `size` items, given their windows."""
    losses, counts = np.zeros(size), np.zeros(size)
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
    return losses, counts
