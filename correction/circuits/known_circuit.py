"""Against a circuit that is known: how well an order separates its components from all others."""

import numpy as np

from correction.attribution.relevance import Relevance
from correction.circuits.circuit_ablation import Kept
from correction.errors import EvaluationError
from stats.auroc import auroc as columns


def auroc(order: Relevance, circuit: Kept) -> float:
    """The chance that a component of the circuit scores higher than one outside it; ties count half (Mann–Whitney).

    1 of an order that keeps the circuit first, 0.5 of one that knows nothing of it.

    Raises:
        EvaluationError: The circuit is everything or nothing.
    """
    scores = np.concatenate([score.view(-1).double().numpy() for score in order.scores.values()])
    inside = np.concatenate([circuit[name].view(-1).numpy() for name in order.scores])
    if inside.all() or not inside.any():
        raise EvaluationError("a circuit of everything or of nothing tells no order from another")
    return float(columns(scores[:, None], inside)[0])
