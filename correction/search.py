"""The mask for a budget: as little of the behaviour as a given increase of perplexity allows.

Several ways to rank components propose; ablation decides. In each round, every candidate ranking is computed on the
model as it is by then, what was chosen before already cut, and on what that model still answers; the longest start of
it that keeps the perplexity of the validation text within the round's share of the budget is tried on the validation
prompts, and so are shorter ones. The best of a round is what the next one starts from; the best of all is chosen.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from correction.behaviour_set import BehaviourSet, answer
from correction.criteria import Settings
from correction.errors import ReferenceSetError, SelectionError
from correction.evaluation.bootstrap import Estimate
from correction.evaluation.perplexity import perplexity
from correction.models import LoadedModel
from correction.progress import Progress, silent
from correction.recipe import Ranking, Selected
from correction.references import ReferenceSet
from correction.relevance import Granularity, Relevance
from correction.selection import select
from correction.symptoms import Symptom
from correction.validation import Validation, longest_within

FEWEST = 8
"""Responses that must still show the behaviour for another round."""


def candidates(granularity: Granularity) -> tuple[Ranking, ...]:
    """The rankings that are tried by default."""
    settings = Settings.default(granularity)
    response = replace(settings, seed="response")
    return (
        Ranking("lrp", settings, "difference"),
        Ranking("lrp", response, "ratio"),
        Ranking("lrp", response, "squared-ratio"),
        Ranking("gradient", response, "squared-ratio"),
    )


@dataclass(frozen=True)
class Tried:
    """One cut, verified by ablation on the validation sets.

    Attributes:
        ranking: what proposed its last part. round: from 1 on; 0 for the model as it is.
        count: components, over all rounds.
        shown: share of validation responses that show the behaviour.
        increase: of perplexity, relative, with the interval that is held against the budget.
        selected: the components.
    """

    ranking: Ranking | None
    round: int
    count: int
    shown: float
    increase: Estimate
    selected: Selected = field(repr=False)

    def described(self) -> dict[str, Any]:
        """As JSON values."""
        label = "none"
        if self.ranking is not None:
            label = f"{self.ranking.settings.granularity}s, {self.ranking.criterion} {self.ranking.kind}"
        return {
            "ranking": label,
            "round": self.round,
            "count": self.count,
            "shown": round(self.shown, 4),
            "increase": [float(f"{each:.3g}") for each in (self.increase.value, self.increase.low, self.increase.high)],
        }


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        chosen: the cut with the least of the behaviour within the budget, on the validation sets.
        tried: every cut that was verified, the model as it is first.
    """

    chosen: Tried
    tried: tuple[Tried, ...]

    @property
    def front(self) -> tuple[Tried, ...]:
        """The Pareto front: those that no other one beats in both behaviour and perplexity, by perplexity."""
        front: list[Tried] = []
        for each in sorted(self.tried, key=lambda one: (one.increase.value, one.shown)):
            if not front or each.shown < front[-1].shown:
                front.append(each)
        return tuple(front)


def search(
    loaded: LoadedModel,
    behaviour: ReferenceSet,
    general: ReferenceSet,
    prompts: ReferenceSet,
    text: ReferenceSet,
    test: Symptom,
    *,
    max_increase: float,
    rankings: Sequence[Ranking],
    rounds: int = 2,
    confidence: float = 0.8,
    limit: int = 400,
    asking: Mapping[str, Any] | None = None,
    attribution: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Found:
    """Look for the cut that leaves least of a behaviour within a budget of perplexity.

    Args:
        behaviour, general: prompts and texts to attribute. prompts, text: those to choose by, apart from the former.
        test: what shows the behaviour.
        max_increase: of perplexity, relative: 0.01 is 1%. The upper limit of the interval must stay within it.
        rankings: what proposes cuts.
        rounds: in how many steps the budget is spent; each step attributes anew.
        confidence: of the interval of the increase, two-sided.
        limit: responses of each kind that are attributed, at most.
        asking: options of `answer`: how prompts are answered. attribution: options of `attribute`.

    Raises:
        SelectionError: a budget that is not over 0, no rounds or rankings, or nothing that can be cut within it.
        ReferenceSetError: too few prompts show the behaviour.
    """
    if not max_increase > 0 or rounds < 1 or not rankings:
        raise SelectionError(
            f"max_increase is {max_increase} and rounds {rounds}, for {len(rankings)} rankings; the budget must be "
            "over 0, as 0.01 for 1%, with at least one round and one ranking"
        )
    asking, attribution = dict(asking or {}), dict(attribution or {})
    before = perplexity(loaded, text, tokens=asking.get("tokens", 4096))
    validation = Validation(loaded, prompts, text, test, asking, confidence, before)
    tried = [Tried(None, 0, 0, validation.shown({}), Estimate(0.0, 0.0, 0.0), {})]
    start = tried[0]
    for number in range(1, rounds + 1):
        share = max_increase * number / rounds
        attribution["state"] = _digest(start.selected)  # the model is another one in each round
        with validation.cut(start.selected):
            answered = answer(loaded, behaviour, test, progress=progress, **asking)
            if (left := int(answered.flags.sum())) < FEWEST:
                if number == 1:
                    raise ReferenceSetError(
                        f"{behaviour.name}: only {left} responses show the behaviour, and a search needs {FEWEST}; "
                        "give more prompts, or change --shows or --threshold"
                    )
                break
            proposals = [
                (ranking, _scores(loaded, ranking, answered, general, start.selected, limit, attribution, progress))
                for ranking in rankings
            ]
        for done, (ranking, scores) in enumerate(proposals, 1):
            for selected, cost in _within(validation, scores, start.selected, share, ranking.kind != "general"):
                count = sum(len(each) for each in selected.values())
                tried.append(Tried(ranking, number, count, validation.shown(selected), cost, selected))
            progress(f"search, round {number}", done, len(proposals))
        start = _best(tried, share)
    chosen = _best(tried, max_increase)
    if chosen.shown >= tried[0].shown:
        raise SelectionError(
            f"no cut that was tried lowers the behaviour for at most {max_increase:.2%} more perplexity; raise the "
            "budget, cut weights (granularity weight), or give more general text, which makes its interval narrower"
        )
    return Found(chosen, tuple(tried))


def _best(tried: Sequence[Tried], limit: float) -> Tried:
    allowed = [each for each in tried if each.increase.high <= limit]
    return min(allowed, key=lambda each: (each.shown, each.increase.value, each.count))


def _scores(
    loaded: LoadedModel,
    ranking: Ranking,
    answered: BehaviourSet,
    general: ReferenceSet,
    cut: Selected,
    limit: int,
    attribution: Mapping[str, Any],
    progress: Progress,
) -> Relevance:
    """Scores on the model as it is by now; what is cut already comes last."""
    shown, spared = answered.kept, None
    if (ranking.found.seed or ranking.settings.seed) == "response":
        shown = answered.shown
        spared = _some(answered.spared, limit) if answered.spared else None
    shown = _some(shown, limit)
    scores = ranking.scores(loaded, shown, general, spared=spared, progress=progress, **attribution)
    for name, places in cut.items():
        if name in scores.scores:
            scores.scores[name].view(-1)[places] = float("inf")
    return scores


def _digest(selected: Selected) -> str:
    digest = hashlib.sha256()
    for name, places in sorted(selected.items()):
        digest.update(name.encode() + b"\0" + places.tobytes())
    return digest.hexdigest()[:16]


def _some(references: ReferenceSet, limit: int) -> ReferenceSet:
    places = np.random.default_rng(0).permutation(len(references))[:limit]
    return references.taken(sorted(places.tolist()))


def _within(
    validation: Validation, scores: Relevance, cut: Selected, limit: float, contrasted: bool
) -> list[tuple[dict[str, NDArray[np.int64]], Estimate]]:
    """The longest start of the ranking within the limit, and a half and a quarter of it, each added to the cut.

    Of a contrast, only components whose score is negative are cut: any other serves the general text more. Without one,
    no more than half of all.
    """
    most = sum(int((score < 0).sum()) for score in scores.scores.values()) if contrasted else len(scores) // 2

    def trial(count: int) -> tuple[dict[str, NDArray[np.int64]], Estimate]:
        selected = _joined(cut, select(scores, count=count))
        return selected, validation.increase(selected)

    def fits(count: int) -> bool:
        if count not in trials:
            trials[count] = trial(count)
        return trials[count][1].high <= limit

    trials: dict[int, tuple[dict[str, NDArray[np.int64]], Estimate]] = {}
    longest = longest_within(fits, most)
    return [trials.get(count) or trial(count) for count in sorted({longest, longest // 2, longest // 4} - {0})]


def _joined(one: Selected, other: Selected) -> dict[str, NDArray[np.int64]]:
    joined = dict(one)
    for name, places in other.items():
        joined[name] = np.union1d(joined[name], places) if name in joined else places
    return joined
