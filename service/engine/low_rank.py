"""Masks of single weights per request: what the cut weights would have added is taken off a layer's output.

The cut part of a matrix, W ∘ M, is the sum of some of its rows and of some columns (a minimum vertex cover of the cut
elements, `edits.cover`). So the correction is two small products instead of a second matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from edits.cover import Cover


@dataclass(frozen=True)
class Factors:
    """The cut part of a layer's matrix on this rank, in the model's dtype and on its device."""

    rows: torch.Tensor
    """Covered outputs, int64, shape (r,)."""
    by_row: torch.Tensor
    """Their cut elements, shape (r, inputs)."""
    columns: torch.Tensor
    """Covered inputs, int64, shape (c,)."""
    by_column: torch.Tensor
    """Their cut elements that no covered row has, shape (outputs, c)."""

    def subtract(self, y: torch.Tensor, x: torch.Tensor, tokens: torch.Tensor) -> None:
        """Take (W ∘ M) x off `y` at `tokens`, in place. Shapes: y (n, outputs), x (n, inputs), tokens (t,)."""
        given = x.index_select(0, tokens)
        left = y.index_select(0, tokens)
        if self.rows.numel():
            left.index_add_(1, self.rows, given @ self.by_row.T, alpha=-1)
        if self.columns.numel():
            left.sub_(given.index_select(1, self.columns) @ self.by_column.T)
        y.index_copy_(0, tokens, left)


@dataclass(frozen=True)
class Piece:
    """The cut elements of one matrix that lie on this rank, in the coordinates of its part there."""

    rows: np.ndarray
    columns: np.ndarray
    """int64, one for each element."""
    values: torch.Tensor
    """The elements, in the model's dtype."""
    cover: Cover
    width: int
    """Inputs of the part."""
    offset: int
    """Where its rows begin among the outputs of the layer."""


def factors(pieces: list[Piece], outputs: int, device: torch.device) -> Factors:
    """The factors of a layer of `outputs` outputs, of all matrices that are fused in it."""
    rows, by_row, columns, by_column = [], [], [], []
    for piece in pieces:
        cover, dtype = piece.cover, piece.values.dtype
        in_row = np.isin(piece.rows, cover.rows)
        left = torch.zeros(len(cover.rows), piece.width, dtype=dtype)
        left[np.searchsorted(cover.rows, piece.rows[in_row]), piece.columns[in_row]] = piece.values[in_row]
        right = torch.zeros(outputs, len(cover.columns), dtype=dtype)
        at = np.searchsorted(cover.columns, piece.columns[~in_row])
        right[piece.rows[~in_row] + piece.offset, at] = piece.values[~in_row]
        rows.append(torch.from_numpy(cover.rows + piece.offset))
        by_row.append(left)
        columns.append(torch.from_numpy(cover.columns))
        by_column.append(right)
    return Factors(
        torch.cat(rows).to(device),
        torch.cat(by_row).to(device),
        torch.cat(columns).to(device),
        torch.cat(by_column, 1).to(device),
    )
