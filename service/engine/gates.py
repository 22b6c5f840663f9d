"""Gates: many masks beside one base model, chosen per request, in one batch.

A gate sits in front of a row-parallel matrix (``down_proj`` for neurons, ``o_proj`` for heads) and multiplies its input
by a row of zeros and ones that is picked for each token. A zero removes the component exactly as zeroing its columns of
the matrix would: the products are the same zeros, summed in the same order.

vLLM's adapter machinery does the rest: which request uses which row, mixed batches, eviction, a KV cache kept apart.
A mask travels as a rank-1 adapter whose ``lora_A`` row holds 1 at every component that is *cut* (see ``adapters``).
"""

from __future__ import annotations

import torch
from vllm.config.lora import LoRAConfig
from vllm.lora import utils as lora_utils
from vllm.lora.layers import RowParallelLinearWithLoRA


class GatedRowParallelLinear(RowParallelLinearWithLoRA):
    """A row-parallel linear layer with one gate row for each resident mask.

    Takes the place of ``RowParallelLinearWithLoRA`` (vllm/lora/layers/row_parallel_linear.py), whose ``forward``,
    tensor-parallel slicing and bookkeeping it keeps. ``lora_B`` is never used.
    """

    gates: torch.Tensor
    """Rows of 0 and 1, shape (max_loras + 1, input features of this rank), model dtype. The last row is all ones: vLLM
    numbers a token without an adapter −1, which picks it."""

    def create_lora_weights(self, max_loras: int, lora_config: LoRAConfig, model_config: object = None) -> None:
        """Allocate the table of gates; every row starts as "cut nothing"."""
        self.lora_config = lora_config
        dtype = lora_config.lora_dtype
        if not isinstance(dtype, torch.dtype):  # vLLM has resolved "auto" by now
            raise TypeError(f"the adapters' dtype is still {dtype!r}")
        self.gates = torch.ones(max_loras + 1, self.input_size, dtype=dtype, device=self.device)
        # vLLM reads the shapes of these two when it makes the adapters of its warm-up; they take no memory.
        nothing = torch.zeros(1, dtype=dtype, device=self.device)
        self.lora_a_stacked = (nothing.expand(max_loras, 1, 1, self.input_size),)
        self.lora_b_stacked = (nothing.expand(max_loras, 1, self.output_size, 1),)
        self.output_slices = (self.output_size,)

    def reset_lora(self, index: int) -> None:
        """Make row ``index`` cut nothing."""
        self.gates[index] = 1

    def set_lora(self, index: int, lora_a: torch.Tensor | list[torch.Tensor], lora_b: object) -> None:
        """Make row ``index`` cut the components flagged in ``lora_a``, shape (1, input features of all ranks)."""
        if not isinstance(lora_a, torch.Tensor) or lora_a.shape[0] != 1:
            raise ValueError("a gate takes one row of flags: this adapter was not made by Excise")
        if self.tp_size > 1:
            lora_a = self.slice_lora_a(lora_a)
        self.gates[index].copy_(1 - lora_a[0].to(self.gates.device), non_blocking=True)

    def apply(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        """Gate ``x``, shape (…, tokens, input features), then multiply as the base layer does."""
        flat = x.reshape(-1, x.shape[-1])
        rows = self.punica_wrapper._token_lora_indices[: flat.shape[0]]
        gated = (flat * self.gates[rows]).view(x.shape)
        return self._get_quant_method().apply(self.base_layer, gated, bias)


def install() -> None:
    """Have vLLM wrap row-parallel layers in gates. Safe to call more than once in a process."""
    lora_utils._all_lora_classes = tuple(
        GatedRowParallelLinear if cls is RowParallelLinearWithLoRA else cls for cls in lora_utils._all_lora_classes
    )
