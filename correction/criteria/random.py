"""Random scores: the floor that every criterion is measured against."""

from collections.abc import Sequence
from zlib import crc32

import torch

from correction.criteria.lrp import tapped
from correction.criteria.seeds import SeededBatch
from correction.criteria.settings import Settings
from correction.models import LoadedModel
from correction.progress import Progress, silent
from correction.relevance import Relevance


def relevance(
    loaded: LoadedModel, batches: Sequence[SeededBatch], settings: Settings, progress: Progress = silent
) -> Relevance:
    """Uniform in [0, 1), by `settings.random_seed` and the samples: another reference set, other scores."""
    samples = sum(len(seeded.batch.lengths) for seeded in batches)
    seed = settings.random_seed
    for seeded in batches:
        seed = crc32(seeded.batch.input_ids.cpu().numpy().tobytes(), seed & 0xFFFFFFFF)
    generator = torch.Generator().manual_seed(seed)
    scores = {
        name: torch.rand(
            module.in_features if settings.granularity == "neuron" else module.weight.shape, generator=generator
        )
        for name, module in tapped(loaded, settings)
    }
    progress("attribution", 1, 1)
    return Relevance(settings.granularity, scores, samples)
