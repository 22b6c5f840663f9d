"""CAP: |w| × how much the weight's head matters, by cutting it; a magnitude that knows what it belongs to.

The importance of a head is its `causal` effect, mapped linearly over all scored heads to 1 (the least) … 10 (the
most). Rows of q and columns of o belong to a head; rows of k and v to the heads of their group, whose importances are
averaged; every weight of an MLP gets the mean of its layer's heads. Where all heads matter alike it is the magnitude.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from correction import distributed
from correction.attribution.criteria.causal import PARTS, MedianOfMeans, head_effects
from correction.attribution.criteria.criterion import Attached, Criterion, Zeros
from correction.attribution.criteria.criterion_settings import Settings
from correction.attribution.criteria.output_seeds import SeededBatch
from correction.attribution.criteria.scored_modules import ScoredModule, find_scored_modules
from correction.instances import frozen_parameters
from correction.models import Block, LoadedModel

LEAST, MOST = 1.0, 10.0
"""Importances of the head that matters least, and of the one that matters most."""


class HeadWeighted:
    """The scores of one matrix, of the layer at `row`.

    `sum` holds the effects of the heads of all scored layers, float32 (layers, PARTS, 1 + heads). Each matrix has its
    own copy, for the sums of several processes are added up one by one.
    """

    def __init__(self, sum: Tensor, place: ScoredModule, block: Block, row: int) -> None:
        self.sum, self.place, self.block, self.row = sum, place, block, row

    def mean(self, samples: int) -> Tensor:
        """float32 (out, in)."""
        heads = linear_importances(torch.stack([MedianOfMeans(each).mean() for each in self.sum]))[self.row]
        magnitude = distributed.full_tensor(self.place.module.weight.detach()).to(heads.device).float().abs()
        return magnitude * expand_to_rows(heads, self.place, self.block)


def linear_importances(effects: Tensor) -> Tensor:
    """Effects of any shape → importances, linear from the smallest, `LEAST`, to the largest, `MOST`."""
    low, high = effects.aminmax()
    if low == high:
        return torch.full_like(effects, LEAST)
    return LEAST + (MOST - LEAST) * (effects - low) / (high - low)


def expand_to_rows(heads: Tensor, place: ScoredModule, block: Block) -> Tensor:
    """The importance of each row or column of a matrix, given that of its layer's heads: (out, 1), (1, in) or ()."""
    module, width = place.module, block.o_proj.in_features // len(heads)
    if module is block.o_proj:
        return heads.repeat_interleave(width)[None]
    if place.name.removesuffix(".weight").rpartition(".")[2] in ("q_proj", "k_proj", "v_proj"):
        groups = heads.view(module.out_features // width, -1).mean(1)
        return groups.repeat_interleave(width)[:, None]
    return heads.mean()


@contextmanager
def attach(loaded: LoadedModel, settings: Settings, zeros: Zeros) -> Iterator[Attached]:
    """Cut every head of the scored layers, one after the other, in each batch."""
    of_heads = replace(settings, granularity="head", modules=None)
    with frozen_parameters(loaded.model):
        heads = list(find_scored_modules(loaded, of_heads))
        rows = {place.name: row for row, place in enumerate(heads)}
        blocks = [block for block in loaded.blocks if f"heads.{block.index}" in rows]
        scores = {}
        for place in find_scored_modules(loaded, settings):
            block = next(each for each in blocks if place.name.startswith(f"weights.{each.prefix}."))
            shape = (len(heads), PARTS, 1 + heads[0].shape[0])
            total = zeros(place.name, shape, place.module.weight.device)
            scores[place.name] = HeadWeighted(total, place, block, rows[f"heads.{block.index}"])

        def see(seeded: SeededBatch) -> None:
            for name, effects in head_effects(loaded, heads, seeded, of_heads):
                for score in scores.values():
                    MedianOfMeans(score.sum[rows[name]]).add(effects)

        yield Attached(scores, see)


CAP = Criterion("cap", attach, frozenset({"weight"}), uses=frozenset({"seed"}))
