"""Calibration: windows of equal length that a method reads before it cuts.

128 windows of 2,048 tokens is what SparseGPT and Wanda use. Their texts are longer than a window; shorter passages are
packed: joined by blank lines in an order that a seed draws, and cut into windows, so that no token is padding.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from correction.correct import describe_set
from correction.data.references import ReferenceSet
from correction.errors import CompressionError, EvaluationError
from correction.evaluation.perplexity import joined_windows
from correction.models import LoadedModel

WINDOWS = 128
WINDOW = 2048


@dataclass(frozen=True)
class Calibration:
    """Windows and where they came from.

    Attributes:
        ids: int64 (windows, tokens), on the CPU.
        texts: What they were packed from.
        seed: Of the order.
    """

    ids: Tensor
    texts: ReferenceSet
    seed: int = 0

    def described(self) -> dict[str, Any]:
        """As masks and checkpoints record it."""
        windows, window = self.ids.shape
        packing = "blank lines, in drawn order"
        return {**describe_set(self.texts), "windows": windows, "window": window, "joined": packing, "seed": self.seed}


def calibrate(
    loaded: LoadedModel, texts: ReferenceSet, *, windows: int = WINDOWS, window: int | None = None, seed: int = 0
) -> Calibration:
    """Pack texts into windows.

    Args:
        loaded: The model.
        texts: What is packed.
        windows: How many windows.
        window: Tokens of each; by default 2,048, or the context where that is shorter.
        seed: Of the order of the texts.

    Raises:
        CompressionError: A window that the model cannot read, or too little text.
    """
    width = min(WINDOW, loaded.context_length) if window is None else window
    if not 2 <= width <= loaded.context_length:
        raise CompressionError(f"window is {width}; it must be from 2 to the context of {loaded.context_length}")
    if windows < 1:
        raise CompressionError(f"windows is {windows}; it must be at least 1")
    order = np.random.default_rng(seed).permutation(len(texts)).tolist()
    try:
        packed = joined_windows(loaded, texts.taken(order), width)
    except EvaluationError:
        packed = []
    if len(packed) < windows:
        raise CompressionError(
            f"{texts.name}: its {len(texts)} texts fill {len(packed)} windows of {width} tokens, and {windows} are "
            "asked for; give more text, fewer windows, or a shorter window"
        )
    return Calibration(torch.tensor(packed[:windows]), texts, seed)
