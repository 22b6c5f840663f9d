"""The mask for a budget: as little of the behaviour as a given increase of perplexity allows.

Several ways to rank components propose; ablation decides. In each round, every ranking is computed on the model as it
is by then, what was chosen before already cut, and on what that model still answers. How much of it fits into the
round's share of the budget is found on some of the validation text; what is found is verified on all of it and on the
validation prompts. The gates of the round's best are then refined by gradient, and that is a proposal like any other.
The best of a round is what the next one starts from; the best of all is chosen.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from correction import distributed
from correction.attribution.attribution import answered_samples, weight_by_detector
from correction.attribution.criteria.output_seeds import Sample
from correction.attribution.relevance import Granularity, Relevance
from correction.data.behaviour_set import BehaviourSet, answer
from correction.data.detectors import Detector
from correction.data.references import ReferenceSet
from correction.data.tokenisation import encode, first_tokens
from correction.errors import ReferenceSetError, SelectionError
from correction.models import LoadedModel
from correction.options import AttributionOptions, GenerationOptions
from correction.progress import Progress, silent
from correction.search.refinement import Refinement, refine
from correction.search.strength import (
    Gated,
    find_dose,
    gated_count,
    graded_gates,
    hard_gates,
    trained_gates,
    union_gates,
)
from correction.search.trials import SearchResult, Trial
from correction.search.validation import Budget, Validation
from correction.selection.ranking import Ranking

FEWEST = 8
"""Responses that must still show the behaviour for another round."""

RESPONSES = 200
"""Responses that are attributed, at most."""

TOKENS, FEW = 8192, 4096
"""Tokens of general text that are attributed, at most: for the cost, and for any other contrast."""

LONGEST = 160
"""Tokens of one text that are attributed, at most: more texts say more than longer ones."""


AIM = 0.8
"""Part of the budget that the estimate on little text may spend: the upper limit on all of it must be within."""


def candidates(granularity: Granularity) -> tuple[Ranking, ...]:
    """The rankings that are tried by default."""
    by_cost = Ranking.default("gradient", granularity), Ranking.default("lrp", granularity)
    return *by_cost, Ranking.default("lrp", granularity, "difference")


def search(
    loaded: LoadedModel,
    behaviour: ReferenceSet,
    general: ReferenceSet,
    prompts: ReferenceSet,
    text: ReferenceSet,
    detector: Detector,
    *,
    budget: Budget,
    rankings: Sequence[Ranking],
    rounds: int = 1,
    refinement: Refinement | None = Refinement(),
    generation_options: GenerationOptions = GenerationOptions(),
    attribution_options: AttributionOptions = AttributionOptions(),
    progress: Progress = silent,
) -> SearchResult:
    """Look for the cut that leaves least of a behaviour within a budget.

    Args:
        behaviour, general: prompts and texts to attribute. prompts, text: those to choose by, apart from the former.
        detector: what shows the behaviour.
        budget: what the correction may cost.
        rankings: what proposes cuts.
        rounds: in how many steps the budget is spent; each step attributes anew.
        refinement: of the gates of neurons and heads; None for none. A model that is sharded is not refined.
        generation_options: how prompts are answered. attribution_options: how relevance is attributed.

    Raises:
        SelectionError: no rounds or rankings, or nothing that can be cut within the budget.
        ReferenceSetError: too few prompts show the behaviour.
    """
    if rounds < 1 or not rankings:
        raise SelectionError(f"there are {rounds} rounds and {len(rankings)} rankings; a search needs one of each")
    attribution_options = attribution_options.replace(
        shows=detector, max_length=min(attribution_options.max_length or LONGEST, LONGEST)
    )
    general = first_tokens(loaded, general, TOKENS, LONGEST)
    validation = Validation(loaded, prompts, text, detector, generation_options, budget.confidence)
    tried = [validation.tried("none", 0, {})]
    start, samples = tried[0], list[Sample]()
    for number in range(1, rounds + 1):
        share = budget.share(number / rounds)
        attribution_options = attribution_options.replace(
            state=_digest(start.gated)
        )  # the model is another one in each round
        with validation.cut(start.gated):
            answered = answer(loaded, behaviour, detector, progress=progress, **generation_options.as_arguments())
            if (left := int(answered.flags.sum())) < FEWEST:
                if number == 1:
                    raise ReferenceSetError(
                        f"{behaviour.name}: only {left} responses show the behaviour, and a search needs {FEWEST}; "
                        "give more prompts, or change --shows or --threshold"
                    )
                break
            proposals = _scored(loaded, rankings, answered, general, start.gated, attribution_options, progress)
        best: tuple[Trial, Relevance, float] | None = None
        for done, (ranking, scores) in enumerate(proposals, 1):
            whole = ranking.contrast == "general" or scores.granularity == "weight"
            doses = Doses(partial(hard_gates if whole else graded_gates, scores), *_start(scores, whole))
            for found, amount in _verified(validation, doses, str(ranking), number, start.gated, share):
                tried.append(found)
                if not whole and (best is None or _order(found, share) < _order(best[0], share)):
                    best = found, scores, amount
            progress(f"search, round {number}", done, len(proposals))
        if refinement and best and distributed.world_size() == 1:
            shown = _random_subset(answered.positives, RESPONSES)
            samples += weight_by_detector(
                loaded, answered_samples(loaded, shown, rankings[0].settings, raw=generation_options.raw), detector
            )
            read = encode(loaded, general, max_length=attribution_options.max_length)
            begun = _begun(*best[1:], start.gated)
            others = {name: gates for name, gates in start.gated.items() if name not in begun.scores}
            with validation.cut(others):
                refined = refine(loaded, begun, samples, read, refinement, progress=progress)
            label = f"{best[0].label}, refined"
            doses = Doses(partial(trained_gates, refined), 1.0, 4.0)
            tried += [found for found, _ in _verified(validation, doses, label, number, others, share)]
        start = min(tried, key=lambda each: _order(each, share))
    chosen = min(tried, key=lambda each: _order(each, budget))
    if chosen.behaviour_rate >= tried[0].behaviour_rate:
        raise SelectionError(
            f"no cut that was tried lowers the behaviour for at most {budget}; raise the budget, cut weights "
            "(granularity weight), or give more general text, which makes its interval narrower"
        )
    return SearchResult(chosen, tuple(tried))


def _order(tried: Trial, limit: Budget) -> tuple[bool, float, float, int]:
    """Smaller is better: those within the limit first, with the least of the behaviour."""
    return limit.spent(tried.increase, tried.divergence) > 1, tried.behaviour_rate, tried.increase.value, tried.count


def _scored(
    loaded: LoadedModel,
    rankings: Sequence[Ranking],
    answered: BehaviourSet,
    general: ReferenceSet,
    cut: Gated,
    attribution_options: AttributionOptions,
    progress: Progress,
) -> list[tuple[Ranking, Relevance]]:
    """Scores on the model as it is by now; what is dampened already comes last, and is never chosen again."""
    kept: dict[tuple[Any, ...], Relevance] = {}
    proposals = []
    for ranking in rankings:
        options = {**attribution_options.as_arguments(), "negatives": answered.negatives, "progress": progress}
        if ranking.reads_general and ranking.of_general not in kept:
            read = general if ranking.contrast == "cost" else first_tokens(loaded, general, FEW, LONGEST)
            kept[ranking.of_general] = ranking.general(loaded, read, **options)
        answers = (ranking.resolved_criterion.seed or ranking.settings.seed) in ("response", "shown")
        shown = _random_subset(answered.positives if answers else answered.selected, RESPONSES)
        unwanted = ranking.behaviour(loaded, shown, **options) if ranking.reads_behaviour else None
        scores = ranking.contrasted(kept[ranking.of_general] if ranking.reads_general else None, unwanted)
        for name, places in cut.items():
            if name in scores.scores:
                scores.scores[name].view(-1)[np.fromiter(places, np.int64)] = float("inf")
        proposals.append((ranking, scores))
    return proposals


@dataclass(frozen=True)
class Doses:
    """What can be dampened: an amount → how; where to begin, and the most there is."""

    at: Callable[[float], Gated]
    start: float
    most: float


def _verified(
    validation: Validation, doses: Doses, label: str, number: int, cut: Gated, share: Budget
) -> list[tuple[Trial, float]]:
    """As much as fits, added to what is cut already, and less where it turns out to be too much."""

    def gated(amount: float) -> Gated:
        return union_gates(cut, doses.at(amount))

    aim = share.share(AIM)
    amount = doses.most and find_dose(
        gated, lambda each: validation.screened(aim, each), start=doses.start, most=doses.most
    )
    tried: list[tuple[Trial, float]] = []
    while amount and len(tried) < 4 and gated_count(chosen := gated(amount)) > gated_count(cut):
        tried.append((validation.tried(label, number, chosen), amount))
        spent = share.spent(tried[-1][0].increase, tried[-1][0].divergence)
        if spent <= 1:
            break
        amount *= max(0.3, (0.95 / spent) ** 0.7)
    return tried


def _begun(scores: Relevance, amount: float, gated: Gated) -> Relevance:
    """−(1 − g) from which gates are refined: scores times a strength, and what is dampened already."""
    found = {name: (amount * score).clamp(-1, 1) for name, score in scores.scores.items()}
    for name, gates in gated.items():
        if isinstance(gates, Mapping) and name in found:
            places = torch.tensor(list(gates))
            found[name][places] = torch.tensor(list(gates.values())) - 1
    return replace(scores, scores=found)


def _start(scores: Relevance, whole: bool) -> tuple[float, float]:
    """Where to begin, and the most there is: a count of what is cut whole, else a strength.

    Only components whose score is under 0 are cut: any other serves the general text more. Where there are no such, as
    by a criterion that reads no data, no more than half of all.
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


def _random_subset(references: ReferenceSet, limit: int) -> ReferenceSet:
    places = np.random.default_rng(0).permutation(len(references))[:limit]
    return references.taken(sorted(places.tolist()))


def _digest(gated: Gated) -> str:
    digest = hashlib.sha256()
    for name, places in sorted(gated.items()):
        digest.update(name.encode() + b"\0" + np.fromiter(places, np.int64).tobytes())
        if isinstance(places, Mapping):
            digest.update(np.fromiter(places.values(), np.float64).tobytes())
    return digest.hexdigest()[:16]
