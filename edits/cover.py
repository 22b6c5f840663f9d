"""The fewest rows and columns of a matrix that hold every removed element: the rank of taking those elements away.

The removed elements of W are the edges of a bipartite graph between its rows and its columns. A set of rows and columns
that touches every edge, a vertex cover, gives a factorisation of the difference −(W ∘ M) with one rank a member. By
Kőnig's theorem (1931) a minimum cover is as large as a maximum matching, and is read off one by alternating paths; for
elements of W in general position no factorisation has a smaller rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_bipartite_matching

from masks import Mask


@dataclass(frozen=True)
class Cover:
    """Rows and columns of a matrix, both int64 and sorted, that together hold every removed element."""

    rows: np.ndarray
    columns: np.ndarray

    @property
    def rank(self) -> int:
        """Rows and columns together: the rank of the factorisation."""
        return len(self.rows) + len(self.columns)


def minimum_cover(indices: np.ndarray, shape: tuple[int, int]) -> Cover:
    """A smallest cover of the elements at flat `indices` (row × columns + column; sorted, unique) of `shape`.

    The graph holds only the rows and columns that occur.
    """
    rows, row_of = _occurring(indices // shape[1], shape[0])
    columns, column_of = _occurring(indices % shape[1], shape[1])
    starts = np.append(0, np.bincount(row_of, minlength=len(rows)).cumsum()).astype(np.int32)
    edges = csr_array((np.ones(len(indices), np.bool_), column_of, starts), shape=(len(rows), len(columns)))
    partner = maximum_bipartite_matching(edges, perm_type="row")  # column → its row, or −1
    reached = _reached(column_of, starts, partner)
    return Cover(rows[~reached], columns[(partner >= 0) & reached[partner]])


def ranks(mask: Mask) -> dict[str, int]:
    """Parameter → rank that taking its cut weights away needs; only parameters of which single weights are cut."""
    return {name: minimum_cover(mask.weight_indices(name), mask.meta.shapes[name]).rank for name in mask.weights}


def _occurring(labels: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels that occur, sorted, and for each of `labels` its place among them, int32."""
    used = np.bincount(labels, minlength=size) > 0
    return np.flatnonzero(used), (np.cumsum(used, dtype=np.int32) - 1)[labels]


def _reached(column_of: np.ndarray, starts: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """Whether an alternating path leads from an unmatched row to each row.

    A path goes from a row to any of its columns and from there to that column's partner, so it is a walk in a graph of
    rows alone. One more node, the source, leads to the unmatched rows; a column without a partner, which no path meets
    (it would lengthen the matching), leads back to it.
    """
    source = len(starts) - 1
    unmatched = np.setdiff1d(np.arange(source), partner)
    steps = np.append(np.where(partner < 0, source, partner)[column_of], unmatched).astype(np.int32)
    walk = csr_array(
        (np.ones(len(steps)), steps, np.append(starts, len(steps)).astype(np.int32)), shape=(source + 1, source + 1)
    )
    reached = np.zeros(source + 1, np.bool_)
    reached[breadth_first_order(walk, source, return_predecessors=False)] = True
    return reached[:source]
