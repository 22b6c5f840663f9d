"""A mask as low-rank factors: for each matrix W, B A is what the mask takes away from it, to the bit.

A covered row r of the removed elements (`edits.cover`) is that row of −(W ∘ M) in A beside the unit vector e_r in B; a
covered column c is e_c in A beside that column in B, without the rows covered already. So each product of B A is an
element of W times one, plus zeros: nothing is rounded, in any dtype.

Of a dampened column c with gate g, (1 − g) e_c is in A and −W[:, c] in B. Each of them is exact in any dtype, which
−(1 − g) W[:, c] would not be.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import tee

import torch

from edits.cover import Cover, minimum_cover
from edits.cuts import cut_tensors
from edits.stream import tensors
from masks import Mask


def factors(mask: Mask, folder: str | os.PathLike[str]) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Name, A and B of each parameter of the checkpoint in `folder` that the mask changes, in the parameter's dtype.

    A has shape (rank, inputs), B (outputs, rank). Of all factorisations by whole rows and columns they have the
    smallest rank, but that each dampened column takes one of its own; an element that is zero already needs none.

    Raises:
        MaskNotAppliedError: As `edits.cuts.cut_tensors`.
        NotRepresentableError: As `edits.cuts.cut_tensors`.
    """
    given, to_cut = tee(tensors(folder))
    # The cut stream goes first: it is the one that raises at the end.
    for (name, left), (_, whole) in zip(cut_tensors(to_cut, mask), given, strict=True):
        if left is not whole and (changed := left != whole).any():
            removed = changed & (left == 0)
            indices = removed.flatten().nonzero().squeeze(1).numpy()
            A, B = factorised(whole, removed, minimum_cover(indices, (whole.shape[0], whole.shape[1])))
            more_A, more_B = dampened(whole, left, changed & ~removed)
            yield name, torch.cat([A, more_A]), torch.cat([B, more_B], 1)


def factorised(W: torch.Tensor, M: torch.Tensor, cover: Cover) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B of −(W ∘ M), for a boolean M of the shape of W and a cover of it."""
    rows, columns = torch.from_numpy(cover.rows), torch.from_numpy(cover.columns)
    A = W.new_zeros(cover.rank, W.shape[1])
    B = W.new_zeros(W.shape[0], cover.rank)
    first, second = torch.arange(len(rows)), torch.arange(len(rows), cover.rank)
    A[first] = torch.where(M[rows], -W[rows], 0)
    B[rows, first] = 1
    A[second, columns] = 1
    B[:, second] = torch.where(M[:, columns], -W[:, columns], 0)
    B[rows[:, None], second] = 0
    return A, B


def dampened(W: torch.Tensor, left: torch.Tensor, M: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B of (left − W) ∘ M, for a boolean M, where each column of `left` at M is that of W times one gate."""
    columns = M.any(0).nonzero().squeeze(1)
    row = M[:, columns].int().argmax(0)
    A = W.new_zeros(len(columns), W.shape[1])
    A[torch.arange(len(columns)), columns] = 1 - left[row, columns] / W[row, columns]
    return A, torch.where(M[:, columns], -W[:, columns], 0)
