"""Scores of weights, the smallest of which are cut.

RIA (Zhang et al., ICLR 2024, "Plug-and-Play", Eq. 2–4): (|W_ij| / Σ_i |W_ij| + |W_ij| / Σ_j |W_ij|) · ‖X_j‖₂^a with
a = 1/2; the share of a weight in what leaves its input and in what enters its output, so that no row or column is lost
whole. Channels are not permuted for N:M patterns. The others are `correction.attribution.criteria`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from correction.attribution.criteria import find_criterion
from correction.attribution.criteria.criterion import on_device
from correction.attribution.criteria.output_seeds import Sample, seeded_batches
from correction.attribution.criteria.scored_modules import ScoredModule
from correction.attribution.criteria.wanda import InputNorm
from correction.attribution.relevance import Relevance
from correction.compression.calibration import Calibration
from correction.compression.matrices import score_settings
from correction.compression.plan import METHODS, Plan
from correction.models import LoadedModel
from correction.progress import Progress, silent

POWER = 0.5


class Norms:
    """Of the input of a matrix: Σ over windows of the mean over tokens of x_j², float32 (in,), as Wanda's criterion."""

    def __init__(self, channels: int, device: torch.device, window: int) -> None:
        self.sum, self.window = torch.zeros(channels, device=device), window

    def read(self, x: Tensor) -> None:
        """Add a batch (see `walk.Statistic`)."""
        self.sum += x.reshape(-1, x.shape[-1]).float().square().sum(0) / self.window


def wanda(place: ScoredModule, norms: Norms, windows: int) -> Tensor:
    """|W_ij| · ‖X_j‖₂: float32 (out, in)."""
    return InputNorm(norms.sum, place.module, neurons=False).mean(windows)


def ria(place: ScoredModule, norms: Norms, windows: int) -> Tensor:
    """Relative importance and activations: float32 (out, in)."""
    magnitude = place.module.weight.detach().float().abs()
    shares = magnitude / magnitude.sum(0) + magnitude / magnitude.sum(1, keepdim=True)
    # A row or column of zeros has no shares: its weights are 0 already, and first to go.
    return shares.nan_to_num_(nan=0.0).mul_((norms.sum / windows).sqrt() ** POWER)


LOCAL: dict[str, Callable[[ScoredModule, Norms, int], Tensor]] = {"wanda": wanda, "ria": ria}


def whole_model_scores(
    loaded: LoadedModel, calibration: Calibration, plan: Plan, *, tokens: int = 4096, progress: Progress = silent
) -> Relevance:
    """Scores of all weights by a criterion that reads the windows through the whole model, or not at all."""
    criterion = find_criterion(METHODS[plan.method].criterion or "")
    chosen = score_settings(loaded, sign=plan.sign, output=plan.output, seed=plan.seed)
    windows = calibration.ids.tolist()
    if (criterion.seed or chosen.seed) == "response":
        samples = [Sample(tuple(ids[:1]), tuple(ids[1:])) for ids in windows]
    else:
        samples = [Sample(tuple(ids), throughout=True) for ids in windows]
    with criterion.attach(loaded, chosen, on_device) as attached:
        if criterion.reads:
            done = 0
            for batch in seeded_batches(samples, criterion.seed or chosen.seed, tokens=tokens, device=loaded.device):
                attached.see(batch)
                progress("windows", done := done + len(batch.batch.lengths), len(samples))
        scores = {name: score.mean(len(samples)).cpu() for name, score in attached.scores.items()}
    if "sign" in criterion.uses:  # a signed mean is ranked by its magnitude: what speaks against counts too
        for score in scores.values():
            score.abs_()
    return Relevance("weight", scores, len(samples))
