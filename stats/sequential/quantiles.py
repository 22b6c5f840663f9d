"""A confidence sequence for a quantile, from a histogram: exact for any distribution.

Whether a value lies at or under the p-quantile is a coin of probability p (where values tie with the quantile, a
further coin can be thought to decide). So the e-process of a rate bounds how many do, at all times at once, and the
quantile lies beyond every edge under which there are too few, and not beyond one under which there are too many
(Howard, Ramdas 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

from stats.sequential.counts import checked_alpha
from stats.sequential.intervals import rate_log_e_value


def quantile_interval(histogram: Sequence[int], edges: Sequence[float], p: float, alpha: float) -> tuple[float, float]:
    """Edges between which the p-quantile lies, at all times at once with probability `1 − alpha`.

    `histogram` counts the values in (−inf, edges[0]], (edges[0], edges[1]], …, (edges[-1], inf), so it is longer by
    one. (−inf, inf) without data.

    Raises:
        ValueError: the counts do not fit the edges, the edges are out of order, or p is outside (0, 1).
    """
    if len(histogram) != len(edges) + 1 or any(a >= b for a, b in pairwise(edges)):
        raise ValueError(f"{len(histogram)} buckets, {len(edges)} edges: a histogram has one more than rising edges")
    if not 0 < p < 1:
        raise ValueError(f"p {p}: a quantile lies strictly between 0 and 1")
    limit, total = -math.log(checked_alpha(alpha)), sum(histogram)
    low, high = -math.inf, math.inf
    for edge, under in zip(edges, accumulate(histogram), strict=False):
        if rate_log_e_value(under, total, p) < limit:
            continue
        if under < p * total:
            low = edge
        else:
            return low, edge
    return low, high
