"""The area under the ROC curve: how well scores separate two classes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from stats.errors import StatisticsError


def auroc(scores: NDArray[Any], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Area of each column of scores (samples, columns): the pairs in order, ties counting half.

    By ranks (Mann and Whitney 1947): (Σ ranks of the positive − n (n + 1) / 2) / (n m).

    Raises:
        StatisticsError: All samples are of one kind.
    """
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        raise StatisticsError(f"{n} bad and {m} good samples: some of both are needed")
    ranks = rankdata(scores, axis=0)
    areas: NDArray[np.float64] = (ranks[positive].sum(0) - n * (n + 1) / 2) / (n * m)
    return areas
