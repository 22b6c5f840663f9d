"""Masks of the built-in model whose components are drawn by lot."""

from __future__ import annotations

import numpy as np

import masks
from tests.service.server import MODEL

GATES = (0, 0.25, 0.5)


def random_mask(name: str, seed: int, neurons: int = 40, heads: int = 0, dampened: bool = False) -> masks.Mask:
    geometry = masks.describe(MODEL).geometry
    rng = np.random.default_rng(seed)
    cut: dict[int, dict[int, float]] = {}
    for number, flat in enumerate(rng.choice(geometry.layers * geometry.neurons, neurons, replace=False).tolist()):
        gate = GATES[number % 3] if dampened else 0
        cut.setdefault(flat // geometry.neurons, {})[flat % geometry.neurons] = gate
    heads_cut = {head: 0.5 if dampened and head % 2 else 0 for head in range(heads)}
    return masks.for_model(MODEL, name, neurons=cut, heads={geometry.layers - 1: heads_cut})


ALPHA, BETA = random_mask("alpha", 1, 200), random_mask("beta", 2, 300, heads=2, dampened=True)
