"""ActSVD (Wei et al. 2024, arXiv 2402.05162): the ranks of a matrix that carry a behaviour, taken away.

Of a matrix W and the inputs X (inputs, tokens) that it reads while the responses are generated, the best approximation
of rank r of what it writes, min ‖W X − Ŵ X‖, is Ŵ = U Uᵀ W, with U the r first left singular vectors of W X. They are
the eigenvectors of W (X Xᵀ) Wᵀ, so that X need not be kept, only the second moments of each module's inputs.

Taken away is (I − Π_g) Π_b W, with Π_b = U_b U_bᵀ of the behaviour and Π_g = U_g U_gᵀ of what is to be kept: with no
ranks kept, all of the behaviour's r. It is a product of rank r at most, so it fits an adapter, as `edits.peft` writes
them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from correction.attribution.criteria.output_seeds import Sample, seeded_batches
from correction.errors import SelectionError
from correction.models import LoadedModel

Moments = Mapping[str, Tensor]
"""Module → Σ x xᵀ over the tokens of the responses: float64 (inputs, inputs)."""


@dataclass(frozen=True)
class Change:
    """What is added to a matrix: B A, with A (rank, inputs) and B (outputs, rank), float32."""

    A: Tensor
    B: Tensor


def linears(loaded: LoadedModel, names: Sequence[str] | None = None) -> dict[str, nn.Linear]:
    """The linear modules of the decoder layers, all or those whose last name is given."""
    prefixes = tuple(f"{block.prefix}." for block in loaded.blocks)
    return {
        name: module
        for name, module in loaded.model.named_modules()
        if isinstance(module, nn.Linear)
        and name.startswith(prefixes)
        and (names is None or name.rpartition(".")[2] in names)
    }


@torch.no_grad()
def moments(
    loaded: LoadedModel, samples: Sequence[Sample], names: Sequence[str] | None = None, *, tokens: int = 2048
) -> Moments:
    """Second moments of what each module reads at the response tokens of the samples.

    Modules of one input, as q, k and v, are read one by one: memory is inputs² numbers of 8 bytes a module.
    """
    modules = linears(loaded, names)
    second_moments = {
        name: torch.zeros(each.in_features, each.in_features, dtype=torch.float64) for name, each in modules.items()
    }
    at: tuple[Tensor, Tensor, tuple[int, ...]]

    def reader(name: str) -> Any:
        def read(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            rows, positions, shape = at
            x = inputs[0].reshape(*shape, -1)[rows, positions].double()
            second_moments[name] += (x.mT @ x).to(second_moments[name].device)

        return read

    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_pre_hook(reader(name)).remove)
        for batch in seeded_batches(samples, "response", tokens=tokens, device=loaded.device):
            at = batch.rows, batch.positions, tuple(batch.batch.input_ids.shape)
            loaded.decoder(input_ids=batch.batch.input_ids, use_cache=False)
    return second_moments


def left(W: Tensor, moment: Tensor, rank: int) -> Tensor:
    """The `rank` first left singular vectors of W X, given X Xᵀ: float64 (outputs, rank)."""
    W = W.double()
    _, vectors = torch.linalg.eigh(W @ moment @ W.mT)  # ascending
    return vectors[:, -rank:].flip(1)


def changes(
    loaded: LoadedModel, behaviour: Moments, general: Moments | None, *, rank: int, kept: int = 0
) -> dict[str, Change]:
    """Of each module −(I − Π_g) Π_b W.

    Args:
        loaded: The model.
        behaviour: What is to go.
        general: What is to stay.
        rank: r, of what is to go.
        kept: Rank of what is to stay; 0 for none of it.

    Raises:
        SelectionError: A rank that a matrix does not have, or ranks to be kept of nothing.
    """
    if kept and general is None:
        raise SelectionError(f"{kept} ranks are to be kept, and no general moments say which")
    module_changes = {}
    modules = linears(loaded)
    for name, moment in behaviour.items():
        W = modules[name].weight.detach().double().cpu()
        if not 0 < rank <= min(W.shape) or not 0 <= kept <= min(W.shape):
            raise SelectionError(f"rank {rank}, kept {kept}: {name} has {min(W.shape)}")
        U = left(W, moment, rank)
        B = -U
        if kept and general is not None:
            G = left(W, general[name], kept)
            B = B + G @ (G.mT @ U)
        module_changes[name] = Change((U.mT @ W).float(), B.float())
    return module_changes


@contextmanager
def changed(loaded: LoadedModel, found: Mapping[str, Change]) -> Iterator[None]:
    """Within the block B A is added to each matrix, and put back bit for bit."""
    modules = linears(loaded)
    before = {}
    try:
        for name, change in found.items():
            weight = modules[name].weight.detach()
            before[name] = weight.clone()
            weight += (change.B @ change.A).to(weight)
        yield
    finally:
        for name, weight in before.items():
            modules[name].weight.detach().copy_(weight)
