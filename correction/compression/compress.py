"""The whole compression: a model, windows and a plan → the model with weights cut, and which ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from correction.attribution.criteria.scored_modules import ScoredModule
from correction.attribution.relevance import Relevance
from correction.compression import methods, sparsegpt
from correction.compression.calibration import Calibration
from correction.compression.matrices import linear_matrices
from correction.compression.plan import METHODS, Plan
from correction.compression.walk import walk
from correction.correct import library_versions
from correction.models import LoadedModel
from correction.progress import Progress, silent
from correction.selection.top_k import select

SETTINGS: dict[str, dict[str, float]] = {
    "ria": {"power": methods.POWER},
    "sparsegpt": {"damping": sparsegpt.DAMPING, "columns": sparsegpt.WIDTH},
}
"""Of a method, what no option changes, and is recorded."""


@dataclass(frozen=True)
class Compressed:
    """What was cut of a model.

    Attributes:
        cut: Parameter → flat indices of its cut weights, int64, ascending.
        changed: The parameters, as they are now, in the model's type.
        made: How, as masks and checkpoints record it.
        mends: Weights that were not cut changed too.
    """

    cut: Mapping[str, NDArray[np.int64]]
    changed: Mapping[str, Tensor]
    made: Mapping[str, Any]
    mends: bool

    @property
    def count(self) -> int:
        """Weights cut."""
        return sum(indices.size for indices in self.cut.values())

    @property
    def total(self) -> int:
        """Weights of the matrices."""
        return sum(parameter.numel() for parameter in self.changed.values())


def compress(
    loaded: LoadedModel, calibration: Calibration, plan: Plan, *, tokens: int = 4096, progress: Progress = silent
) -> Compressed:
    """Cut weights of the model in place: it is compressed afterwards.

    Raises:
        CompressionError: A pattern that does not divide a matrix, or a Hessian that has no inverse.
        SelectionError: Scores that are no numbers.
    """
    plan.check(loaded)
    windows, window = calibration.ids.shape
    cut: dict[str, NDArray[np.int64]] = {}
    if METHODS[plan.method].mends:

        def mend(read: list[tuple[ScoredModule, sparsegpt.Hessian]]) -> None:
            for place, hessian in read:
                cut[_parameter(place)] = sparsegpt.prune(place.name, place.module, hessian, plan)

        walk(loaded, calibration, sparsegpt.Hessian, mend, tokens=tokens, progress=progress)
    elif METHODS[plan.method].local:
        score = methods.LOCAL[plan.method]
        parts: dict[str, Tensor] = {}

        def rank(read: list[tuple[ScoredModule, methods.Norms]]) -> None:
            scores = {place.name: score(place, norms, windows).cpu() for place, norms in read}
            if plan.by_block:
                cut.update(prune([place for place, _ in read], Relevance("weight", scores, windows), plan))
            else:
                parts.update(scores)

        make = partial(methods.Norms, window=window)
        walk(loaded, calibration, make, rank, tokens=tokens, progress=progress)
        if parts:
            cut = prune(linear_matrices(loaded), Relevance("weight", parts, windows), plan)
    else:
        relevance = methods.whole_model_scores(loaded, calibration, plan, tokens=tokens, progress=progress)
        cut = prune(linear_matrices(loaded), relevance, plan)
    changed = {_parameter(place): place.module.weight for place in linear_matrices(loaded)}
    made = {
        "criterion": plan.method,
        "compression": plan.described() | SETTINGS.get(plan.method, {}),
        "text": calibration.described(),
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "versions": library_versions(),
    }
    return Compressed(cut, changed, made, METHODS[plan.method].mends)


def prune(places: Sequence[ScoredModule], relevance: Relevance, plan: Plan) -> dict[str, NDArray[np.int64]]:
    """Write 0 over the weights with the smallest scores; parameter → flat indices of them, as in `Compressed.cut`."""
    selection = select(relevance, **plan.budget())
    cut = {}
    for place in places:
        cut[_parameter(place)] = indices = selection.get(place.name, np.empty(0, np.int64))
        weight = place.module.weight.detach()
        weight.view(-1)[torch.from_numpy(indices).to(weight.device)] = 0
    return cut


def _parameter(place: ScoredModule) -> str:
    return place.name.removeprefix("weights.")
