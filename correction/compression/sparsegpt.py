"""SparseGPT (Frantar & Alistarh, ICML 2023, Algorithm 1): cut weights, and let those further right make up for them.

H = 2/n Σ x xᵀ over the n tokens that a matrix reads, with 0.01 of its mean diagonal added to the diagonal. U is the
upper Cholesky factor of H⁻¹: its row i, times U_ii, is the first row of the inverse of H restricted to the columns from
i on. Columns are taken from left to right, 128 at a time. Among those of one such part the weights with the smallest
w²/U_ii² are cut, what cutting them does to a layer's squared error (Hassibi & Stork 1993) with the columns before them
settled; for a pattern N:M that choice is made at every M-th column, with the weights as they are by then. After each
column, those right of it are changed to make up for what was lost: w −= w_i/U_ii · U_i.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from correction.compression.plan import Plan
from correction.errors import CompressionError
from correction.selection.smallest import k_smallest, k_smallest_in_rows
from correction.selection.top_k import parse_pattern

DAMPING = 0.01
WIDTH = 128


class Hessian:
    """Σ x xᵀ over tokens, float32 (channels, channels), and how many there were."""

    def __init__(self, channels: int, device: torch.device) -> None:
        self.sum = torch.zeros(channels, channels, device=device)
        self.tokens = 0

    def read(self, x: Tensor) -> None:
        """Add a batch (see `walk.Statistic`)."""
        x = x.reshape(-1, x.shape[-1]).float()
        self.sum.addmm_(x.mT, x)
        self.tokens += len(x)

    def matrix(self) -> Tensor:
        """2/n Σ x xᵀ."""
        return self.sum * (2 / max(1, self.tokens))


def prune(name: str, module: nn.Linear, hessian: Hessian, plan: Plan) -> NDArray[np.int64]:
    """Cut and change the weights of a module in place; flat indices of those that were cut, int64, ascending.

    Raises:
        CompressionError: The inputs hold values that are no numbers, or a pattern does not divide the columns.
    """
    with torch.no_grad():
        weights, cut = pruned(
            name, module.weight.detach().float(), hessian.matrix(), fraction=plan.fraction, pattern=plan.pattern
        )
        module.weight.copy_(weights)
    return np.flatnonzero(cut.cpu().numpy().reshape(-1))


def pruned(
    name: str,
    weight: Tensor,
    hessian: Tensor,
    *,
    fraction: float | None = None,
    pattern: str | None = None,
    width: int = WIDTH,
    damping: float = DAMPING,
) -> tuple[Tensor, Tensor]:
    """The new weights, and which of them are cut: float32 and bool (out, in).

    Args:
        name: Of the matrix, for messages.
        weight: float32 (out, in).
        hessian: float32 (in, in).
        fraction: Of the weights of each part of `width` columns; None for a pattern.
        pattern: `N:M`; None for a fraction.
        width: Columns that are taken together.
        damping: Part of the mean of the diagonal of the Hessian that is added to the diagonal.
    """
    columns = weight.shape[1]
    n, m = parse_pattern(pattern) if pattern else (0, width)
    if pattern and (columns % m or width % m):
        raise CompressionError(
            f"{name}: its {columns} columns in parts of {width} are not divisible by the {m} of {pattern}"
        )
    weight = weight.clone()
    silent = hessian.diagonal() == 0  # an input that is always 0: its weights do nothing, and are the first to go
    weight[:, silent] = 0
    upper = factor(name, hessian, damping)
    cut = torch.zeros_like(weight, dtype=torch.bool)
    for start in range(0, columns, width):
        end = min(start + width, columns)
        part, inverse = weight[:, start:end], upper[start:end, start:end]
        pivots = inverse.diagonal()
        if not pattern:
            count = round((fraction or 0) * part.numel())
            cut[:, start:end] = _lowest(name, part.square() / pivots.square(), count)
        lost = torch.zeros_like(part)
        for i in range(end - start):
            if pattern and i % m == 0:
                group = slice(i, i + m)
                saliency = part[:, group].square() / pivots[group].square()
                cut[:, start + i : start + i + m] = _lowest_in_rows(name, saliency, n)
            gone = cut[:, start + i]
            lost[:, i] = torch.where(gone, part[:, i] / pivots[i], 0.0)
            part[:, i] = torch.where(gone, 0.0, part[:, i])
            part[:, i + 1 :].addr_(lost[:, i], inverse[i, i + 1 :], alpha=-1)
        weight[:, end:].addmm_(lost, upper[start:end, end:], alpha=-1)
    return weight, cut


def factor(name: str, hessian: Tensor, damping: float = DAMPING) -> Tensor:
    """The upper Cholesky factor of the inverse of the damped Hessian.

    Raises:
        CompressionError: There is none.
    """
    hessian = hessian.clone()
    diagonal = hessian.diagonal()
    diagonal[diagonal == 0] = 1
    diagonal += damping * diagonal.mean()
    try:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
        return torch.linalg.cholesky(inverse, upper=True)
    except torch.linalg.LinAlgError as error:
        raise CompressionError(
            f"{name}: the Hessian of its inputs has no inverse: they overflow, or are too few; use float32 or "
            "bfloat16, or more windows"
        ) from error


def _lowest(name: str, saliency: Tensor, count: int) -> Tensor:
    flags = torch.zeros(saliency.numel(), dtype=torch.bool)
    if count:
        flags[torch.from_numpy(k_smallest({name: saliency.cpu()}, count)[name])] = True
    return flags.view(saliency.shape).to(saliency.device)


def _lowest_in_rows(name: str, saliency: Tensor, count: int) -> Tensor:
    flags = torch.zeros(saliency.numel(), dtype=torch.bool)
    flags[torch.from_numpy(k_smallest_in_rows(name, saliency.contiguous().cpu(), count))] = True
    return flags.view(saliency.shape).to(saliency.device)
