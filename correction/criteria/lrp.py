"""Layer-wise relevance propagation for transformers: AttnLRP, put on a model for a while.

Attention: the gradients of q, k and v are divided by 4, 4 and 2. The product of attention and values halves the
relevance of both factors (uniform rule); softmax keeps its gradient (its Taylor rule); the product of queries and keys
halves what is left. MLP: the activation passes relevance on (identity rule), the gating product shares it (uniform
rule). Normalisation: the denominator is a constant.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from operator import attrgetter
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from correction.criteria.rules import identity_rule, rms_norm, uniform_rule
from correction.criteria.seeds import SeededBatch
from correction.criteria.settings import Settings
from correction.criteria.taps import NeuronScore, WeightScore, neuron_tap, weight_tap
from correction.errors import CriterionError
from correction.instances import frozen, replaced
from correction.models import Architecture, LoadedModel
from correction.progress import Progress, silent
from correction.relevance import Relevance

ATTENTION = "excise_attnlrp"
"""Name of the attention function in transformers' registry: the one thing here that is process-wide."""


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """SDPA as transformers calls it, with the gradients of q, k, v divided by 4, 4, 2."""
    options["dropout"] = 0.0
    return sdpa_attention_forward(
        module, uniform_rule(query, 4), uniform_rule(key, 4), uniform_rule(value, 2), attention_mask, **options
    )


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


@contextmanager
def attnlrp(loaded: LoadedModel) -> Iterator[None]:
    """Within the block, gradients in this model are those of AttnLRP: value × gradient is relevance.

    Parameters are frozen meanwhile. On leaving, by whatever way, the model is exactly as it was; other models,
    even such as share its config, never change.
    """
    with ExitStack() as stack:
        stack.enter_context(frozen(loaded.model))
        found = loaded.model.config
        config = copy.copy(found)  # models can share a config: only the modules of this one see the change
        config._attn_implementation = ATTENTION
        for module in loaded.model.modules():
            if module.__dict__.get("config") is found:
                stack.enter_context(replaced(module, "config", config))
        for norm in loaded.norms:
            stack.enter_context(replaced(norm, "forward", partial(rms_norm, norm)))
        for block in loaded.blocks:
            forward = _gated_mlp(block.mlp, loaded.architecture)
            stack.enter_context(replaced(block.mlp, "forward", forward))
        yield


def relevance(
    loaded: LoadedModel, batches: Sequence[SeededBatch], settings: Settings, progress: Progress = silent
) -> Relevance:
    """Relevance of neurons (activation × gradient, summed over positions) or weights (w × gradient, Eq. 8).

    Raises:
        CriterionError: no module of the decoder layers has one of the names in `settings.modules`.
    """
    samples = sum(len(seeded.batch.lengths) for seeded in batches)
    with ExitStack() as stack:
        stack.enter_context(attnlrp(loaded))
        taps: dict[str, NeuronScore | WeightScore] = {}
        for name, module in tapped(loaded, settings):
            tap: Callable[..., Any] = neuron_tap if settings.granularity == "neuron" else weight_tap
            taps[name] = stack.enter_context(tap(module, settings.sign))
        for done, seeded in enumerate(batches, 1):
            seeded.output(loaded).backward()
            progress("attribution", done, len(batches))
        scores = {name: taps.pop(name).total.div_(samples).cpu() for name in list(taps)}
    return Relevance(settings.granularity, scores, samples)


def tapped(loaded: LoadedModel, settings: Settings) -> Iterator[tuple[str, nn.Linear]]:
    """The linear modules that are scored, under the names of their scores, in component order."""
    if settings.granularity == "neuron":
        for block in loaded.blocks:
            yield f"neurons.{block.index}", block.down_proj
        return
    found = set()
    names = {f"{block.prefix}." for block in loaded.blocks}
    for name, module in loaded.model.named_modules():
        last = name.rpartition(".")[2]
        if isinstance(module, nn.Linear) and last in settings.modules and any(map(name.startswith, names)):
            found.add(last)
            yield f"weights.{name}.weight", module
    if missing := sorted(set(settings.modules) - found):
        raise CriterionError(f"no linear module of the decoder layers is called {', '.join(missing)}")


def scored(loaded: LoadedModel, settings: Settings) -> int:
    """How many components an attribution scores."""
    neurons = settings.granularity == "neuron"
    return sum(module.in_features if neurons else module.weight.numel() for _, module in tapped(loaded, settings))


def _gated_mlp(mlp: nn.Module, architecture: Architecture) -> Callable[[Tensor], Tensor]:
    gate, up, activation, down = (
        attrgetter(path.removeprefix(f"{architecture.mlp}."))(mlp)
        for path in (architecture.gate, architecture.up, architecture.activation, architecture.down_proj)
    )

    def forward(x: Tensor) -> Tensor:
        return down(uniform_rule(identity_rule(activation, gate(x)) * up(x), 2))

    return forward
