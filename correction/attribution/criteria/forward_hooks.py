"""Reading the inputs of linear modules in a forward pass, without any gradient."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from correction.attribution.criteria.criterion import Attached, Score
from correction.attribution.criteria.criterion_settings import Settings
from correction.attribution.criteria.output_seeds import SeededBatch
from correction.attribution.criteria.scored_modules import ScoredModule, find_scored_modules
from correction.instances import frozen_parameters
from correction.models import LoadedModel

ForwardScore = Callable[[Tensor, Tensor], None]
"""Takes what enters a module, (rows, positions, channels), and the weight of each position, float32 (rows, positions):
1 / the tokens of its row, and 0 for padding, so that Σ is the mean over tokens, summed over samples. With a seed at
responses, those are the tokens at which the response is generated (Wei et al. 2024); the prompt counts for nothing."""


@contextmanager
def attach_forward_hooks(
    loaded: LoadedModel, settings: Settings, make: Callable[[ScoredModule], tuple[Score, ForwardScore]]
) -> Iterator[Attached]:
    """Attach a score and its reader, as `make` builds them, at everything that the settings ask to be scored."""
    weights = torch.empty(0)

    def hook(read: ForwardScore) -> Callable[..., None]:
        def pre_hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            read(inputs[0].view(*weights.shape, -1), weights)  # OPT's MLP has rows and positions in one

        return pre_hook

    def see(seeded: SeededBatch) -> None:
        nonlocal weights
        ids, lengths = seeded.batch.input_ids, seeded.batch.lengths[:, None]
        if settings.seed in ("response", "shown"):
            weights = torch.zeros(ids.shape, device=ids.device)
            weights.index_put_((seeded.rows, seeded.positions), seeded.weights, accumulate=True)
        else:
            weights = (torch.arange(ids.shape[1], device=ids.device) < lengths) / lengths.clamp_min(1)
        with torch.no_grad():
            loaded.decoder(input_ids=ids, use_cache=False)

    with ExitStack() as stack:
        stack.enter_context(frozen_parameters(loaded.model))
        scores = {}
        for place in find_scored_modules(loaded, settings):
            scores[place.name], read = make(place)
            stack.callback(place.module.register_forward_pre_hook(hook(read)).remove)
        yield Attached(scores, see)
