"""Layer-wise relevance propagation for transformers: AttnLRP, put on a model for a while.

Attention: the gradients of q, k and v are divided by 4, 4 and 2. The product of attention and values halves the
relevance of both factors (uniform rule); softmax keeps its gradient (its Taylor rule); the product of queries and keys
halves what is left. MLP: the activation passes relevance on (identity rule), the gating product shares it (uniform
rule). Normalisation: the denominator is a constant.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from correction.attribution.criteria.backward_hooks import attach_backward_hooks
from correction.attribution.criteria.criterion import Attached, Criterion, Zeros
from correction.attribution.criteria.criterion_settings import Settings
from correction.attribution.criteria.lrp_rules import identity_rule, normalise, uniform_rule
from correction.instances import frozen_parameters, replaced_attribute
from correction.models import Block, LoadedModel

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

    Parameters are frozen inside the context. On leaving it, with an error or without, the model is exactly as it was;
    other models, even such as share its config, never change.
    """
    with ExitStack() as stack:
        stack.enter_context(frozen_parameters(loaded.model))
        original = loaded.model.config
        config = copy.copy(original)  # models can share a config: only the modules of this one see the change
        config._attn_implementation = ATTENTION
        for module in loaded.model.modules():
            if module.__dict__.get("config") is original:
                stack.enter_context(replaced_attribute(module, "config", config))
        for norm in loaded.norms:
            stack.enter_context(replaced_attribute(norm, "forward", partial(normalise, norm)))
        for block in loaded.blocks:
            if block.mlp is None or block.gate is None:
                rule = partial(identity_rule, block.activation.forward)
                stack.enter_context(replaced_attribute(block.activation, "forward", rule))
            else:
                stack.enter_context(replaced_attribute(block.mlp, "forward", _gated(block, block.gate)))
        yield


@contextmanager
def attach(loaded: LoadedModel, settings: Settings, zeros: Zeros) -> Iterator[Attached]:
    """Relevance of neurons and heads (activation × gradient over positions), or of weights (w × gradient, Eq. 8)."""
    with (
        attnlrp(loaded),
        attach_backward_hooks(loaded, settings, settings.sign, zeros, lambda seeded: seeded.output(loaded)) as attached,
    ):
        yield attached


LRP = Criterion("lrp", attach, uses=frozenset({"seed", "sign", "baseline"}))


def _gated(block: Block, gate: nn.Module) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        return block.down_proj(uniform_rule(identity_rule(block.activation, gate(x)) * block.up(x), 2))

    return forward
