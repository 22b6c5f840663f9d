"""The matrices that are compressed: every linear module of the decoder layers, and nothing else.

Of Llama's these are seven a layer: q, k, v, o, gate, up and down. Embeddings and output head stay as they are.
"""

from torch import nn

from correction.attribution.criteria import OutputSeed, Settings, Sign
from correction.attribution.criteria.scored_modules import ScoredModule, find_scored_modules
from correction.models import LoadedModel


def score_settings(
    loaded: LoadedModel,
    *,
    layer: int | None = None,
    sign: Sign = "absolute",
    output: OutputSeed = "last",
    seed: int = 0,
) -> Settings:
    """For criteria to score all of them, or those of one layer."""
    names = {
        name.rpartition(".")[2]: None  # in the order of the layer
        for block in loaded.blocks
        for name, module in block.layer.named_modules()
        if isinstance(module, nn.Linear)
    }
    layers = None if layer is None else (layer,)
    return Settings("weight", output, sign, modules=tuple(names), layers=layers, random_seed=seed)


def linear_matrices(loaded: LoadedModel, layer: int | None = None) -> list[ScoredModule]:
    """All of them, or those of one layer, in component order, named as scores are: `weights.<parameter>`."""
    return list(find_scored_modules(loaded, score_settings(loaded, layer=layer)))
