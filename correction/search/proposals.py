"""Proposals: the scores of every ranking in a round, turned into cuts of which as much as fits is verified."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from correction.attribution.relevance import Relevance
from correction.data.behaviour_set import BehaviourSet
from correction.data.references import ReferenceSet
from correction.data.tokenisation import first_tokens
from correction.models import LoadedModel
from correction.options import AttributionOptions
from correction.progress import Progress
from correction.search.strength import Gated, find_dose, gated_count, union_gates
from correction.search.trials import Trial
from correction.search.validation import Budget, Validation
from correction.selection.ranking import Ranking

RESPONSES = 200
"""Responses that are attributed, at most."""

TOKENS, TOKENS_WITHOUT_COST = 8192, 4096
"""Tokens of general text that are attributed, at most: for the cost, and for any other contrast."""

LONGEST = 160
"""Tokens of one text that are attributed, at most: more texts say more than longer ones."""

AIM = 0.8
"""Part of the budget that the estimate on little text may spend: the upper limit on all of it must be within."""

MOST_TRIALS = 4
"""Verifications of one proposal, each with a smaller amount than the last."""


REPETITIVE = 0.7
"""Of the amount, where a cut is within the budget but makes responses repetitive or empty."""


@dataclass(frozen=True)
class Round:
    """One round of a search.

    Attributes:
        number: From 1 on.
        gated: What the rounds before it have dampened.
        budget: What may be spent by the end of this round.
    """

    number: int
    gated: Gated
    budget: Budget


@dataclass(frozen=True)
class Doses:
    """A proposal: how much of something can be dampened.

    Attributes:
        at: An amount to the gates that it makes.
        start: Amount to begin with.
        most: Largest amount.
    """

    at: Callable[[float], Gated]
    start: float
    most: float


def score_rankings(
    loaded: LoadedModel,
    rankings: Sequence[Ranking],
    answered: BehaviourSet,
    general: ReferenceSet,
    gated: Gated,
    attribution_options: AttributionOptions,
    progress: Progress,
) -> list[tuple[Ranking, Relevance]]:
    """Score every component by every ranking, on the model as it is now.

    Rankings with the same general relevance share it.

    Args:
        loaded: The model, with `gated` dampened already.
        rankings: What orders components.
        answered: What the model answers to the behaviour prompts.
        general: Text that must stay as it is.
        gated: What is dampened already: its scores become +inf, so that it is never chosen again.
        attribution_options: How relevance is attributed.
        progress: Called after every batch.

    Returns:
        Each ranking with its scores; the smallest are to be cut first.
    """
    options = {**attribution_options.as_arguments(), "negatives": answered.negatives, "progress": progress}
    general_relevance: dict[tuple[Any, ...], Relevance] = {}
    proposals = []
    for ranking in rankings:
        shared = ranking.of_general
        if ranking.reads_general and shared not in general_relevance:
            by_cost = ranking.contrast == "cost"
            text = general if by_cost else first_tokens(loaded, general, TOKENS_WITHOUT_COST, LONGEST)
            general_relevance[shared] = ranking.general(loaded, text, **options)
        behaviour_relevance = None
        if ranking.reads_behaviour:
            prompts = random_subset(_attributed_prompts(ranking, answered), RESPONSES)
            behaviour_relevance = ranking.behaviour(loaded, prompts, **options)
        scores = ranking.contrasted(general_relevance[shared] if ranking.reads_general else None, behaviour_relevance)
        _exclude(scores, gated)
        proposals.append((ranking, scores))
    return proposals


def _attributed_prompts(ranking: Ranking, answered: BehaviourSet) -> ReferenceSet:
    """Every response that shows the behaviour, for a seed in the response; else each such prompt once."""
    seed = ranking.resolved_criterion.seed or ranking.settings.seed
    return answered.positives if seed in ("response", "shown") else answered.selected


def _exclude(scores: Relevance, gated: Gated) -> None:
    for name, places in gated.items():
        if name in scores.scores:
            scores.scores[name].view(-1)[np.fromiter(places, np.int64)] = float("inf")


def verify_doses(
    validation: Validation, doses: Doses, label: str, number: int, gated: Gated, budget: Budget
) -> list[tuple[Trial, float]]:
    """Find how much of a proposal fits the budget, and verify it.

    The amount is found on a part of the validation text. Where all of the text says that it is too much, a smaller one
    is tried, up to `MOST_TRIALS` in all.

    Args:
        validation: The sets to verify on.
        doses: The proposal.
        label: Name of the trials.
        number: Of the round.
        gated: What is dampened already, and stays so.
        budget: What may be spent, with what is dampened already.

    Returns:
        Every trial with its amount; only the last is within the budget, if any is.
    """

    def union_at(amount: float) -> Gated:
        return union_gates(gated, doses.at(amount))

    aim = budget.share(AIM)
    amount = doses.most and find_dose(
        union_at, lambda gates: validation.screened(aim, gates), start=doses.start, most=doses.most
    )
    trials: list[tuple[Trial, float]] = []
    while amount and len(trials) < MOST_TRIALS:
        gates = union_at(amount)
        if gated_count(gates) <= gated_count(gated):
            break
        trial = validation.tried(label, number, gates)
        trials.append((trial, amount))
        if budget.allows(trial):
            break
        spent = budget.spent(trial.increase, trial.divergence)
        amount *= max(0.3, (0.95 / spent) ** 0.7) if spent > 1 else REPETITIVE
    return trials


def dose_range(scores: Relevance, whole: bool) -> tuple[float, float]:
    """The amount to begin with, and the largest one.

    Only components whose score is under 0 are cut: any other serves the general text more. Where there are none, as
    with a criterion that reads no data, at most half of all components are cut whole.

    Args:
        scores: The smallest are to be cut first.
        whole: Amounts are counts of components that are cut whole; else they are strengths, see `strength`.
    """
    flat = -torch.cat([score.view(-1) for score in scores.scores.values()])
    wanted = flat[flat > 0].double()
    first = max(1, len(flat) // 500)
    if whole:
        most = len(wanted) or len(flat) // 2
        return float(min(first, most)), float(most)
    if not len(wanted):
        return 0.0, 0.0
    place = max(1, len(wanted) - first + 1)
    return 1 / float(wanted.kthvalue(place).values), 1 / float(wanted.min())


def gates_to_refine(scores: Relevance, strength: float, gated: Gated) -> Relevance:
    """−(1 − g) of the gates g that a strength makes of scores, and of those that are dampened already."""
    dampened = {name: (strength * score).clamp(-1, 1) for name, score in scores.scores.items()}
    for name, gates in gated.items():
        if isinstance(gates, Mapping) and name in dampened:
            places = torch.tensor(list(gates))
            dampened[name][places] = torch.tensor(list(gates.values())) - 1
    return replace(scores, scores=dampened)


def random_subset(references: ReferenceSet, limit: int) -> ReferenceSet:
    """At most `limit` texts, drawn with a fixed seed, in their order."""
    places = np.random.default_rng(0).permutation(len(references))[:limit]
    return references.taken(sorted(places.tolist()))


def gates_digest(gated: Gated) -> str:
    """The first 16 hexadecimal digits of a sha256 of gates."""
    digest = hashlib.sha256()
    for name, places in sorted(gated.items()):
        digest.update(name.encode() + b"\0" + np.fromiter(places, np.int64).tobytes())
        if isinstance(places, Mapping):
            digest.update(np.fromiter(places.values(), np.float64).tobytes())
    return digest.hexdigest()[:16]
