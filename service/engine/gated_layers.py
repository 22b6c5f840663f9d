"""Gates: many masks beside one base model, chosen for each token of a batch.

A gate sits in front of a matrix whose inputs are neurons (`down_proj`, `fc2`) or heads (`o_proj`, `out_proj`)
and multiplies them by a row of factors: 0 where the mask cuts, 1/4 or 1/2 where it dampens, 1 elsewhere. That is
exactly what multiplying the columns of the matrix would do: a zero gives the same zeros, a power of two the same
products (float16 alone may round its smallest numbers), summed in the same order.

A gate takes the place of the layer's linear method (`quant_method` in vllm/model_executor/layers/linear.py) and hands
on to it. So whatever the layer is, quantised, sharded or with a bias, its own code does the multiplication.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from service.engine.low_rank import Factors

_EDITED: list[EditedMethod] = []
"""By the number in a layer's handle: how an operator in a compiled graph finds its Python object."""


class Batch:
    """Which mask each token of the running batch is under. One for an engine's worker, shared by all its layers.

    `index` has one slot number a token, int64, shape (tokens at most,), a fixed place in memory so that a captured
    graph reads what is written there later. Slot `slots` is no mask.
    """

    def __init__(self, tokens: int, slots: int, device: torch.device) -> None:
        self.slots = slots
        self.index = torch.full((tokens,), slots, dtype=torch.long, device=device)
        self.gated = False
        """Whether any token is under a mask that cuts or dampens neurons or heads."""
        self.weighted: dict[int, torch.Tensor] = {}
        """Slot → positions of its tokens, int64, for the slots whose masks cut weights."""


class EditedMethod:
    """A linear method with edits: a gate before the one that it wraps, low-rank factors after it."""

    def __init__(self, method: Any, batch: Batch, *, gated: bool, weighted: bool) -> None:
        self._method = method
        self.batch = batch
        self.gated = gated
        self.weighted = weighted
        self.gates: torch.Tensor | None = None
        """Factors in the model's dtype, shape (slots + 1, inputs), the last row all ones. None without a gate."""
        self.factors: dict[int, Factors] = {}
        """Slot → what its mask takes off the output."""

    def __getattr__(self, name: str) -> Any:
        """All other attributes of vLLM's linear method are the wrapped one's."""
        if name.startswith("__") or name == "_method":
            raise AttributeError(name)
        return getattr(self._method, name)

    def apply(self, layer: nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """The masked layer's output for `x`, shape (…, tokens, inputs). Changes `x`, which nobody reads later."""
        compiling = torch.compiler.is_compiling()
        if self.gated:
            if compiling:
                torch.ops.excise.gate(x, layer.excise_handle)
            else:
                self.gate(x)
        y: torch.Tensor = self._method.apply(layer, x, bias)
        if self.weighted:
            if compiling:
                torch.ops.excise.subtract(y, x, layer.excise_handle)
            else:
                self.subtract(y, x)
        return y

    def gate(self, x: torch.Tensor) -> None:
        """Multiply each token's row of `x` by its mask's row, in place."""
        if self.batch.gated and self.gates is not None:
            flat = x.view(-1, x.shape[-1])
            flat.mul_(self.gates.index_select(0, self.batch.index[: flat.shape[0]]))

    def subtract(self, y: torch.Tensor, x: torch.Tensor) -> None:
        """Take the part of the cut weights off `y`, in place, for the tokens under a mask that cuts some here."""
        for slot, tokens in self.batch.weighted.items():
            if factors := self.factors.get(slot):
                factors.subtract(y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1]), tokens)


def edit(layer: Any, batch: Batch, dtype: torch.dtype, inputs: int, *, gated: bool, weighted: bool) -> EditedMethod:
    """Put an `EditedMethod` in the place of `layer`'s linear method and return it.

    `inputs` is the number of the layer's input features on this rank.
    """
    method = EditedMethod(layer.quant_method, batch, gated=gated, weighted=weighted)
    if gated:
        method.gates = torch.ones(batch.slots + 1, inputs, dtype=dtype, device=batch.index.device)
    # On the CPU, also where the device is another: reading the number must not wait for an accelerator.
    layer.register_buffer("excise_handle", torch.tensor([len(_EDITED)]), persistent=False)
    _EDITED.append(method)
    layer.quant_method = method
    layer.requires_unquantized_input = True  # vllm/model_executor/layers/fusion/quant_activation.py
    return method


def _gate(x: torch.Tensor, handle: torch.Tensor) -> None:
    _EDITED[int(handle)].gate(x)


def _subtract(y: torch.Tensor, x: torch.Tensor, handle: torch.Tensor) -> None:
    _EDITED[int(handle)].subtract(y, x)


# Opaque to torch.compile, so that a compiled graph asks at each run which masks are in use.
_LIBRARY = torch.library.Library("excise", "DEF")
for _schema, _run in (
    ("gate(Tensor(a!) x, Tensor handle) -> ()", _gate),
    ("subtract(Tensor(a!) y, Tensor x, Tensor handle) -> ()", _subtract),
):
    _name = _schema.partition("(")[0]
    _LIBRARY.define(_schema)
    _LIBRARY.impl(_name, _run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"excise::{_name}", lambda *_: None, lib=_LIBRARY)
