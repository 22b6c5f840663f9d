"""The mask for a budget: as little of the behaviour as a given increase of perplexity allows.

Several ways to rank components propose; ablation decides. In each round, every ranking is computed on the model as it
is by then, what was chosen before already cut, and on what that model still answers. How much of it fits into the
round's share of the budget is found on some of the validation text; what is found is verified on all of it and on the
validation prompts. The gates of the round's best are then refined by gradient, and that is a proposal like any other.
The best of a round is what the next one starts from; the best of all is chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

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
from correction.search.proposals import (
    LONGEST,
    RESPONSES,
    TOKENS,
    Doses,
    Round,
    dose_range,
    gates_digest,
    gates_to_refine,
    random_subset,
    score_rankings,
    verify_doses,
)
from correction.search.refinement import Refinement, refine
from correction.search.strength import graded_gates, hard_gates, trained_gates
from correction.search.trials import SearchResult, Trial
from correction.search.validation import Budget, Validation
from correction.selection.ranking import Ranking

FEWEST = 8
"""Responses that must still show the behaviour for another round."""


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
        loaded: The model.
        behaviour: Prompts to attribute.
        general: Text to attribute.
        prompts: Prompts to choose by; none of them is in `behaviour`.
        text: Text to choose by; none of it is in `general`.
        detector: What shows the behaviour.
        budget: What the correction may cost.
        rankings: What proposes cuts.
        rounds: In how many steps the budget is spent; each step attributes anew.
        refinement: Of the gates of neurons and heads; None for none. A sharded model is not refined.
        generation_options: How prompts are answered.
        attribution_options: How relevance is attributed.
        progress: Called after every step of the work.

    Returns:
        The best trial within the budget, and every other trial.

    Raises:
        SelectionError: No rounds or rankings, or nothing that can be cut within the budget.
        ReferenceSetError: Too few prompts show the behaviour.
    """
    if rounds < 1 or not rankings:
        raise SelectionError(f"there are {rounds} rounds and {len(rankings)} rankings; a search needs one of each")
    max_length = min(attribution_options.max_length or LONGEST, LONGEST)
    attribution_options = attribution_options.replace(shows=detector, max_length=max_length)
    general = first_tokens(loaded, general, TOKENS, LONGEST)
    validation = Validation(loaded, prompts, text, detector, generation_options, budget)
    trials = [validation.tried("none", 0, {})]
    start, samples = trials[0], list[Sample]()
    for number in range(1, rounds + 1):
        this_round = Round(number, start.gated, budget.share(number / rounds))
        # The model is another one in each round, and a journal must not mix them up.
        options = attribution_options.replace(state=gates_digest(start.gated))
        with validation.cut(start.gated):
            answered = answer(loaded, behaviour, detector, progress=progress, **generation_options.as_arguments())
            if not _enough_responses(answered, number, behaviour.name):
                break
            proposals = score_rankings(loaded, rankings, answered, general, start.gated, options, progress)
        round_trials, best = _try_proposals(validation, proposals, this_round, progress)
        trials += round_trials
        if refinement and best and distributed.world_size() == 1:
            responses = random_subset(answered.positives, RESPONSES)
            new_samples = answered_samples(loaded, responses, rankings[0].settings, raw=generation_options.raw)
            samples += weight_by_detector(loaded, new_samples, detector)
            sequences = encode(loaded, general, max_length=max_length)
            trials += _try_refined(loaded, validation, best, samples, sequences, refinement, this_round, progress)
        start = min(trials, key=lambda trial: _trial_order(trial, this_round.budget))
    chosen = min(trials, key=lambda trial: _trial_order(trial, budget))
    if chosen.behaviour_rate >= trials[0].behaviour_rate:
        looping = sum(trial.repetitive.low > 0 for trial in trials)
        besides = (
            f" without making responses repetitive or empty ({looping} of {len(trials) - 1} did)" if looping else ""
        )
        raise SelectionError(
            f"no cut that was tried lowers the behaviour for at most {budget}{besides}; raise the budget, cut weights "
            "(granularity weight), or give more general text, which makes its interval narrower"
        )
    return SearchResult(chosen, tuple(trials))


@dataclass(frozen=True)
class _GradedTrial:
    """A trial of graded gates, with the scores and the strength that made them."""

    trial: Trial
    scores: Relevance
    strength: float


def _enough_responses(answered: BehaviourSet, number: int, name: str) -> bool:
    """Whether enough responses show the behaviour for another round; an error in the first one."""
    left = int(answered.flags.sum())
    if left < FEWEST and number == 1:
        raise ReferenceSetError(
            f"{name}: only {left} responses show the behaviour, and a search needs {FEWEST}; "
            "give more prompts, or change --shows or --threshold"
        )
    return left >= FEWEST


def _try_proposals(
    validation: Validation,
    proposals: Sequence[tuple[Ranking, Relevance]],
    this_round: Round,
    progress: Progress,
) -> tuple[list[Trial], _GradedTrial | None]:
    """Verify what every ranking proposes: all trials, and the best of those with graded gates."""
    trials: list[Trial] = []
    graded: list[_GradedTrial] = []
    for done, (ranking, scores) in enumerate(proposals, 1):
        whole = ranking.contrast == "general" or scores.granularity == "weight"
        doses = Doses(partial(hard_gates if whole else graded_gates, scores), *dose_range(scores, whole))
        verified = verify_doses(validation, doses, str(ranking), this_round.number, this_round.gated, this_round.budget)
        trials += [trial for trial, _ in verified]
        if not whole:
            graded += [_GradedTrial(trial, scores, strength) for trial, strength in verified]
        progress(f"search, round {this_round.number}", done, len(proposals))
    best = min(graded, key=lambda each: _trial_order(each.trial, this_round.budget), default=None)
    return trials, best


def _try_refined(
    loaded: LoadedModel,
    validation: Validation,
    best: _GradedTrial,
    samples: Sequence[Sample],
    sequences: Sequence[Sequence[int]],
    refinement: Refinement,
    this_round: Round,
    progress: Progress,
) -> list[Trial]:
    """Refine the gates of a trial, and verify what comes out."""
    start = gates_to_refine(best.scores, best.strength, this_round.gated)
    others = {name: gates for name, gates in this_round.gated.items() if name not in start.scores}
    with validation.cut(others):
        refined = refine(loaded, start, samples, sequences, refinement, progress=progress)
    doses = Doses(partial(trained_gates, refined), 1.0, 4.0)
    label = f"{best.trial.label}, refined"
    verified = verify_doses(validation, doses, label, this_round.number, others, this_round.budget)
    return [trial for trial, _ in verified]


def _trial_order(trial: Trial, budget: Budget) -> tuple[bool, float, float, int]:
    """Smaller is better: those within the budget first, with the least of the behaviour."""
    return not budget.allows(trial), trial.behaviour_rate, trial.increase.value, trial.count
