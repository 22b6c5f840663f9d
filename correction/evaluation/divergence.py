"""How far a cut model is from the base on the same tokens: what each expects next, position by position.

The base reads its tokens once. What is kept of it are the hidden states that enter its output head, (positions, hidden)
in the model's own type: from them its logits come out again exactly, at a small part of their memory. Of a cut the
Kullback–Leibler divergence KL(base ‖ cut), the agreement of the most likely tokens, and the losses of the tokens
themselves, as `perplexity` reads them.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from correction.data.references import ReferenceSet
from correction.data.tokenisation import Batch, batches
from correction.errors import EvaluationError
from correction.evaluation.perplexity import increase
from correction.models import LoadedModel
from correction.progress import Progress, silent
from stats.estimates import Estimate, Floats, bootstrap

Cut = Callable[[], AbstractContextManager[object]]
"""Makes a context within which the model is cut, such as `lambda: ablated(loaded, mask)`."""

_LOGITS = 1 << 24
"""Logits of each model that are held at one time."""


@dataclass(frozen=True)
class Divergence:
    """A cut model against the base, by text: sums over the scored positions, float64 (texts,) each.

    Attributes:
        kl: KL(base ‖ cut) = Σ_v p(v) · log(p(v) / q(v)), p the base's and q the cut's next-token distribution, in nats.
        agreement: Positions where both have the same most likely token.
        losses_before: Negative log-likelihood of the tokens, in nats.
        losses_after: Negative log-likelihood of the tokens, in nats.
        hits_before: Positions where the most likely token is the one that comes.
        hits_after: Positions where the most likely token is the one that comes.
        tokens: Scored positions, int64 (texts,).
    """

    kl: Floats
    agreement: Floats
    losses_before: Floats
    losses_after: Floats
    hits_before: Floats
    hits_after: Floats
    tokens: NDArray[np.int64]

    def kl_per_token(self, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
        """Mean KL of a position, in nats, with its bootstrap interval over texts."""
        return self._mean(self.kl, confidence, seed)

    def agreement_rate(self, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
        """Share of positions where the most likely token is the same, with its bootstrap interval over texts."""
        return self._mean(self.agreement, confidence, seed)

    def perplexity_increase(self, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
        """Perplexity after / perplexity before − 1, with its paired bootstrap interval over texts."""
        return _increase(self.losses_before, self.losses_after, self.tokens, confidence, seed)

    def hits_difference(self, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
        """Accuracy of the most likely token, after − before, with its paired bootstrap interval over texts."""
        return self._mean(self.hits_after - self.hits_before, confidence, seed)

    def _mean(self, sums: Floats, confidence: float, seed: int) -> Estimate:
        scored = self.tokens > 0
        counts = self.tokens[scored].astype(np.float64)
        return bootstrap(per_token, sums[scored], counts, confidence=confidence, seed=seed)


def per_token(sums: Floats, tokens: Floats) -> Floats:
    """Mean over all positions, along the last axis."""
    return sums.sum(-1) / tokens.sum(-1)


@dataclass(frozen=True)
class _Part:
    """A batch of windows; position k of it predicts targets[k] from (rows[k], positions[k]), for text owners[k]."""

    batch: Batch
    rows: Tensor
    positions: Tensor
    targets: Tensor
    owners: NDArray[np.int64]


class Baseline:
    """The base model's reading of some texts, that any number of cuts are compared with.

    Args:
        texts: A reference set, whose texts are taken as they stand, or token ids. Longer ones are read in windows, as
            `perplexity` reads passages.
        starts: First token of each text that is scored, from 1 on; by default 1. A prompt's length scores its answer.
        window: Tokens of a window; by default the whole context.
        tokens: Size of a batch, padding included.
        keep: Hidden states in memory; without, the base reads the texts anew for each cut.

    Raises:
        EvaluationError: A window longer than the context, not a start for each text, or no position to score.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        texts: ReferenceSet | Sequence[Sequence[int]],
        *,
        starts: Sequence[int] | None = None,
        window: int | None = None,
        tokens: int = 4096,
        keep: bool = True,
        progress: Progress = silent,
    ) -> None:
        if isinstance(texts, ReferenceSet):
            texts = [list(loaded.tokenizer(text, verbose=False)["input_ids"]) for text in texts.texts]
        width = loaded.context_length if window is None else window
        if not 2 <= width <= loaded.context_length:
            raise EvaluationError(f"window is {width}; it must be from 2 to the context of {loaded.context_length}")
        starts = [1] * len(texts) if starts is None else starts
        if len(starts) != len(texts) or any(start < 1 for start in starts):
            raise EvaluationError(f"{len(texts)} texts need as many starts, each at least 1; there are {len(starts)}")
        self._loaded = loaded
        self._progress = progress
        # A cut may change the head itself, and where the embeddings are tied, those too.
        self._head = copy.deepcopy(loaded.model.get_output_embeddings()).requires_grad_(False)
        self._parts = list(_parts(texts, starts, width, tokens, loaded.device))
        self._texts = len(texts)
        if not self._parts:
            raise EvaluationError("no text has a token to predict, so there is nothing to compare")
        self.tokens = self._summed([np.ones(len(part.owners)) for part in self._parts]).astype(np.int64)
        self._kept: list[Tensor] | None = [] if keep else None
        self._losses, self._hits = self._read()

    @torch.no_grad()
    def divergence(self, cut: Cut) -> Divergence:
        """Read the texts with the model cut, and compare."""
        comparisons: list[NDArray[np.float64]] = []
        if self._kept is None:
            for number, part in enumerate(self._parts, 1):
                base = self._states(part)
                with cut():
                    comparisons.append(self._compared(part, base))
                self._progress("divergence", number, len(self._parts))
        else:
            with cut():
                for number, (part, base) in enumerate(zip(self._parts, self._kept, strict=True), 1):
                    comparisons.append(self._compared(part, base))
                    self._progress("divergence", number, len(self._parts))
        kl, agreement, losses, hits = (self._summed([values[row] for values in comparisons]) for row in range(4))
        return Divergence(kl, agreement, self._losses, losses, self._hits, hits, self.tokens)

    @torch.no_grad()
    def perplexity_increase(self, cut: Cut, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
        """`Divergence.perplexity_increase` of a cut, without the base's logits, which the rest of it takes."""
        head, losses = self._loaded.model.get_output_embeddings(), []
        with cut():
            for number, part in enumerate(self._parts, 1):
                loss, _ = self._losses_and_hits(head, self._states(part), part.targets)
                losses.append(loss)
                self._progress("perplexity", number, len(self._parts))
        return _increase(self._losses, self._summed(losses), self.tokens, confidence, seed)

    @torch.no_grad()
    def _read(self) -> tuple[Floats, Floats]:
        """Losses and hits of the base, by text; keeps its hidden states where they are to be kept."""
        losses, hits = [], []
        for number, part in enumerate(self._parts, 1):
            states = self._states(part)
            if self._kept is not None:
                self._kept.append(states)
            loss, hit = self._losses_and_hits(self._head, states, part.targets)
            losses.append(loss)
            hits.append(hit)
            self._progress("base", number, len(self._parts))
        return self._summed(losses), self._summed(hits)

    def _states(self, part: _Part) -> Tensor:
        """What enters the head at each scored position: (positions, hidden)."""
        hidden = self._loaded.decoder(input_ids=part.batch.input_ids, use_cache=False).last_hidden_state
        return hidden[part.rows, part.positions]

    def _losses_and_hits(self, head: nn.Module, states: Tensor, targets: Tensor) -> NDArray[np.float64]:
        """Of a head's logits at these states: float64 (2, positions)."""
        chunks = self._chunks(states, targets)
        values = [_against(head(each).float().log_softmax(-1), expected) for each, expected in chunks]
        return torch.cat(values, dim=1).cpu().numpy()

    def _compared(self, part: _Part, base: Tensor) -> NDArray[np.float64]:
        """KL, agreement, loss and hit of each position under the cut that the model now has: float64 (4, positions)."""
        head = self._loaded.model.get_output_embeddings()
        values = []
        for before, after, targets in self._chunks(base, self._states(part), part.targets):
            p, q = (each.float().log_softmax(-1) for each in (self._head(before), head(after)))
            same = p.argmax(-1) == q.argmax(-1)
            kl = (p.exp() * (p - q)).sum(-1)
            values.append(torch.cat([torch.stack([kl, same]).double(), _against(q, targets)]))
        return torch.cat(values, dim=1).cpu().numpy()

    def _chunks(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        size = max(1, _LOGITS // self._head.weight.shape[0])
        return zip(*(each.split(size) for each in tensors), strict=True)

    def _summed(self, values: Sequence[Floats]) -> Floats:
        """Sums by text of the values of all positions, given by part."""
        owners = np.concatenate([part.owners for part in self._parts])
        return np.bincount(owners, np.concatenate(values), minlength=self._texts).astype(np.float64)


def _increase(before: Floats, after: Floats, tokens: NDArray[np.int64], confidence: float, seed: int) -> Estimate:
    """Perplexity after / before − 1, with its paired bootstrap interval over texts."""
    return bootstrap(increase, before, after, tokens.astype(np.float64), confidence=confidence, seed=seed)


def _against(logs: Tensor, targets: Tensor) -> Tensor:
    """Losses of the targets, and whether they are the most likely: float64 (2, positions)."""
    return torch.stack([F.nll_loss(logs, targets, reduction="none"), logs.argmax(-1) == targets]).double()


def _parts(
    texts: Sequence[Sequence[int]], starts: Sequence[int], width: int, tokens: int, device: torch.device
) -> Iterator[_Part]:
    """Batches of the windows of texts. A window's first token is not scored, nor is any before its text's start."""
    windows, owners, firsts = [], [], []
    for place, (text, start) in enumerate(zip(texts, starts, strict=True)):
        for begin in range(0, len(text), width):
            piece, first = text[begin : begin + width], max(1, start - begin)
            if first < len(piece):
                windows.append(piece)
                owners.append(place)
                firsts.append(first)
    for places, batch in batches(windows, tokens, device):
        begins = torch.tensor([firsts[place] for place in places], device=device)
        columns = torch.arange(1, batch.input_ids.shape[1], device=device)
        rows, positions = ((columns >= begins[:, None]) & (columns < batch.lengths[:, None])).nonzero(as_tuple=True)
        targets = batch.input_ids[rows, positions + 1]
        yield _Part(batch, rows, positions, targets, np.array([owners[place] for place in places])[rows.cpu().numpy()])
