"""Causal: what happens when a head is cut, by cutting it. Exact, and what every cheaper criterion is a guess at.

With the seed `response`, the rise of the mean cross entropy of the response or text, in nats a token; with any other,
the fall of the seeded output: with `contrastive`, that of the difference between the two logits that were the largest
before the cut. A head is cut at every position at once, as a mask cuts it.

The samples are dealt out to `PARTS` disjoint parts, and a head's score is the median over the parts of the mean within
one: a few odd samples do not lift it. For each head the layers before its own are not run again: they hand on what they
gave to the uncut model. So a batch costs about half as many passes as the model has heads, and memory for one output of
each layer.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from correction.ablation import scaled_input
from correction.attribution.criteria.criterion import Attached, Criterion, Zeros
from correction.attribution.criteria.criterion_settings import Settings
from correction.attribution.criteria.output_seeds import SeededBatch, gather_logits, logit_margin, resolve_tokens
from correction.attribution.criteria.scored_modules import ScoredModule, find_scored_modules
from correction.data.tokenisation import Batch
from correction.instances import frozen_parameters, replaced_attribute
from correction.models import LoadedModel

PARTS = 5
"""Disjoint parts of the samples, over whose means the median is taken."""

_SEEDS = 512
"""Logits of so many seeds are held at one time."""


class MedianOfMeans:
    """Of each part, how many samples it has and Σ of the effects of cutting each head: float32 (PARTS, 1 + heads)."""

    def __init__(self, sum: Tensor) -> None:
        self.sum = sum

    def add(self, effects: Tensor) -> None:
        """Deal out the samples of a batch, (samples, heads), in turn to the parts."""
        seen = int(self.sum[:, 0].sum())
        turn = torch.arange(seen, seen + len(effects), device=self.sum.device) % PARTS
        rows = torch.cat([torch.ones_like(effects[:, :1]), effects], 1)
        self.sum.index_add_(0, turn, rows.to(self.sum))

    def mean(self, samples: int = 0) -> Tensor:
        """The median over the parts that have samples: float32 (heads,)."""
        there = self.sum[self.sum[:, 0] > 0]
        return (there[:, 1:] / there[:, :1]).quantile(0.5, dim=0)


@contextmanager
def attach(loaded: LoadedModel, settings: Settings, zeros: Zeros) -> Iterator[Attached]:
    """Cut every head that is scored, one after the other, in each batch."""
    with frozen_parameters(loaded.model):
        places = list(find_scored_modules(loaded, settings))
        scores = {
            place.name: MedianOfMeans(zeros(place.name, (PARTS, 1 + place.shape[0]), place.module.weight.device))
            for place in places
        }

        def see(seeded: SeededBatch) -> None:
            for name, effects in head_effects(loaded, places, seeded, settings):
                scores[name].add(effects)

        yield Attached(scores, see)


@torch.no_grad()
def head_effects(
    loaded: LoadedModel, places: list[ScoredModule], seeded: SeededBatch, settings: Settings
) -> Iterator[tuple[str, Tensor]]:
    """Of each scored module in turn, its name and what cutting each of its heads does: float32 (samples, heads)."""
    passes = ablated_hidden_states(loaded, places, seeded.batch)
    output = SeededOutput(loaded, seeded, next(passes)[1], loss=settings.seed == "response")
    for place in places:
        yield place.name, torch.stack([output.fall(next(passes)[1]) for _ in range(place.shape[0])], 1)


def ablated_hidden_states(
    loaded: LoadedModel, places: list[ScoredModule], batch: Batch
) -> Iterator[tuple[str, Tensor]]:
    """Run the whole model, then the model with each head of each module cut in turn.

    Yields:
        Name of the module, "" for the whole model, and the last hidden states (rows, tokens, hidden).
    """
    layers = {f"heads.{block.index}": block.index for block in loaded.blocks}
    outputs: dict[int, Any] = {}
    with ExitStack() as stack:
        for block in loaded.blocks:

            def keep(module: nn.Module, inputs: Any, output: Any, index: int = block.index) -> None:
                outputs[index] = output

            stack.callback(block.layer.register_forward_hook(keep).remove)
        whole = _hidden(loaded, batch)
    yield "", whole
    for place in places:
        for head in range(place.shape[0]):
            row = torch.ones(place.module.in_features, dtype=loaded.dtype, device=place.module.weight.device)
            row[head * place.width : (head + 1) * place.width] = 0
            with ExitStack() as stack:
                for block in loaded.blocks[: layers[place.name]]:
                    known = outputs[block.index]
                    stack.enter_context(replaced_attribute(block.layer, "forward", lambda *_, known=known, **__: known))
                stack.enter_context(scaled_input(place.module, row))
                hidden = _hidden(loaded, batch)
            yield place.name, hidden


@torch.no_grad()
def _hidden(loaded: LoadedModel, batch: Batch) -> Tensor:
    states: Tensor = loaded.decoder(input_ids=batch.input_ids, use_cache=False).last_hidden_state
    return states


class SeededOutput:
    """What is to fall when something is cut: minus the loss of the seeded tokens, or their logits or margins.

    Args:
        whole: The last hidden states of the whole model: they name the tokens with the largest logits, where such are
            seeded, and those tokens stay.
    """

    def __init__(self, loaded: LoadedModel, seeded: SeededBatch, whole: Tensor, *, loss: bool) -> None:
        self._head: Any = loaded.model.get_output_embeddings()
        self._seeded, self._loss = seeded, loss
        self._real = (seeded.batch.lengths > 0).nonzero()[:, 0]  # none of an idle pass
        self._tokens = self._named(whole)
        self._before = self._values(whole)

    def fall(self, hidden: Tensor) -> Tensor:
        """By how much it is lower than in the whole model: float32 (samples,)."""
        return (self._before - self._values(hidden))[self._real]

    @torch.no_grad()
    def _named(self, hidden: Tensor) -> Tensor:
        if not bool((self._seeded.tokens < 0).any()):
            return self._seeded.tokens
        parts = self._parts(hidden, self._seeded.tokens)
        return torch.cat([resolve_tokens(self._head(states).float(), tokens) for states, tokens in parts])

    @torch.no_grad()
    def _values(self, hidden: Tensor) -> Tensor:
        """Of each row: float32 (rows,)."""
        values = []
        for states, tokens in self._parts(hidden, self._tokens):
            logits = self._head(states).float()
            if self._loss:
                values.append(-F.cross_entropy(logits, tokens, reduction="none"))
            else:
                values.append((logit_margin if self._seeded.margins else gather_logits)(logits, tokens))
        each = self._seeded.weights * torch.cat(values)
        return each.new_zeros(len(hidden)).index_add_(0, self._seeded.rows, each)

    def _parts(self, hidden: Tensor, tokens: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        states = hidden[self._seeded.rows, self._seeded.positions]
        yield from zip(states.split(_SEEDS), tokens.split(_SEEDS), strict=True)


CAUSAL = Criterion("causal", attach, frozenset({"head"}), uses=frozenset({"seed"}))
