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

from correction.ablation import scaled
from correction.criteria.criterion import Attached, Criterion, Zeros
from correction.criteria.scored import Scored, scored
from correction.criteria.seeds import SeededBatch, chosen, margin
from correction.criteria.settings import Settings
from correction.instances import frozen, replaced
from correction.models import LoadedModel
from correction.tokenisation import Batch

PARTS = 5
"""Disjoint parts of the samples, over whose means the median is taken."""

_SEEDS = 512
"""Logits of so many seeds are held at one time."""


class Parts:
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
    with frozen(loaded.model):
        places = list(scored(loaded, settings))
        scores = {
            place.name: Parts(zeros(place.name, (PARTS, 1 + place.shape[0]), place.module.weight.device))
            for place in places
        }

        def see(seeded: SeededBatch) -> None:
            for name, found in effects(loaded, places, seeded, settings):
                scores[name].add(found)

        yield Attached(scores, see)


@torch.no_grad()
def effects(
    loaded: LoadedModel, places: list[Scored], seeded: SeededBatch, settings: Settings
) -> Iterator[tuple[str, Tensor]]:
    """Of each scored module in turn, its name and what cutting each of its heads does: float32 (samples, heads)."""
    real = (seeded.batch.lengths > 0).nonzero()[:, 0]
    layers = {f"heads.{block.index}": block for block in loaded.blocks}
    outputs: dict[int, Any] = {}
    with ExitStack() as stack:
        for block in loaded.blocks:

            def keep(module: nn.Module, inputs: Any, output: Any, index: int = block.index) -> None:
                outputs[index] = output

            stack.callback(block.layer.register_forward_hook(keep).remove)
        hidden = _hidden(loaded, seeded.batch)
    tokens = _tokens(loaded, seeded, hidden)
    before = _values(loaded, seeded, hidden, tokens, settings)
    for place in places:
        found = []
        with ExitStack() as stack:
            for block in loaded.blocks[: layers[place.name].index]:
                known = outputs[block.index]
                stack.enter_context(replaced(block.layer, "forward", lambda *_, known=known, **__: known))
            for head in range(place.shape[0]):
                row = torch.ones(place.module.in_features, dtype=loaded.dtype, device=place.module.weight.device)
                row[head * place.width : (head + 1) * place.width] = 0
                with scaled(place.module, row):
                    hidden = _hidden(loaded, seeded.batch)
                found.append(before - _values(loaded, seeded, hidden, tokens, settings))
        yield place.name, torch.stack(found, 1)[real]


def _hidden(loaded: LoadedModel, batch: Batch) -> Tensor:
    states: Tensor = loaded.decoder(input_ids=batch.input_ids, use_cache=False).last_hidden_state
    return states


def _tokens(loaded: LoadedModel, seeded: SeededBatch, hidden: Tensor) -> Tensor:
    """The seeded tokens, those with the largest logits named while the model is whole: int64 (seeds,)."""
    if not bool((seeded.tokens < 0).any()):
        return seeded.tokens
    head: Any = loaded.model.get_output_embeddings()
    found = []
    for states, tokens in _split(seeded, hidden, seeded.tokens):
        best = head(states).float().topk(2).indices
        found.append(torch.where(tokens == -1, best[:, 0], torch.where(tokens == -2, best[:, 1], tokens)))
    return torch.cat(found)


def _values(loaded: LoadedModel, seeded: SeededBatch, hidden: Tensor, tokens: Tensor, settings: Settings) -> Tensor:
    """What is to fall, of each sample: float32 (samples,)."""
    head: Any = loaded.model.get_output_embeddings()
    found = []
    for states, wanted in _split(seeded, hidden, tokens):
        logits = head(states).float()
        if settings.seed == "response":
            found.append(-F.cross_entropy(logits, wanted, reduction="none"))
        else:
            found.append((margin if seeded.margins else chosen)(logits, wanted))
    each = seeded.weights * torch.cat(found)
    return each.new_zeros(len(hidden)).index_add_(0, seeded.rows, each)


def _split(seeded: SeededBatch, hidden: Tensor, tokens: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    states = hidden[seeded.rows, seeded.positions]
    yield from zip(states.split(_SEEDS), tokens.split(_SEEDS), strict=True)


CAUSAL = Criterion("causal", attach, frozenset({"head"}), uses=frozenset({"seed"}))
