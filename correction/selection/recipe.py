"""A recipe: everything that decides which components are cut, but for the reference sets."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from correction.attribution.attribution import attribute
from correction.attribution.criteria import Criterion, Settings, find_criterion
from correction.attribution.criteria.cost import COST
from correction.attribution.criteria.scored_modules import component_count
from correction.attribution.relevance import Granularity, Relevance
from correction.data.references import ReferenceSet
from correction.errors import CriterionError, SelectionError
from correction.models import LoadedModel
from correction.selection.contrast import Contrast, contrast
from correction.selection.top_k import Scope, component_budget, limit_rank, parse_pattern, select, set_difference

Selected = Mapping[str, NDArray[np.int64]]


COSTED = ("lrp", "gradient")
"""Criteria that say what a cut does to an output: what is gained by it, to be held against what it costs."""


@dataclass(frozen=True)
class Ranking:
    """What orders components: a criterion, its settings, and the contrast between the two reference sets.

    Attributes:
        criterion, settings: see `criteria`.
        contrast: see `contrast`; `general` where the criterion reads no data, so that both sets score the same.
        rank: for weights, in how many rows and columns of a matrix they may be cut: see `limit_rank`; None for all.

    Raises:
        CriterionError: the criterion does not exist, cannot score what the settings ask for, or reads no data and is
            asked for a contrast between two sets.
    """

    criterion: str
    settings: Settings
    contrast: Contrast
    rank: int | None = None

    @classmethod
    def default(
        cls,
        criterion: str = "lrp",
        granularity: Granularity = "neuron",
        contrast: Contrast | None = None,
        **given: Any,
    ) -> "Ranking":
        """The contrast that fits a criterion and the settings that fit the contrast, but for those `given`."""
        if contrast is None:
            contrast = (
                "general" if not find_criterion(criterion).reads else "cost" if criterion in COSTED else "difference"
            )
        return cls(criterion, replace(Settings.default(granularity, contrast), **given), contrast)

    def __post_init__(self) -> None:
        self.found.check(self.settings)
        if self.contrast != "general" and not self.found.reads:
            raise CriterionError(
                f"{self.criterion} reads no data, so both sets score the same and their {self.contrast} is nothing; "
                "leave the contrast out"
            )
        if self.settings.baseline == "spared" and self.contrast not in ("cost", "behaviour"):
            raise CriterionError(
                f"a general text has no response to be held against: with the baseline spared the contrast is cost or "
                f"behaviour, not {self.contrast}"
            )
        if self.rank is not None and (self.rank < 1 or self.settings.granularity != "weight"):
            raise CriterionError(f"rank is {self.rank}: it bounds cuts of weights, to 1 row or column or more")

    @property
    def found(self) -> Criterion:
        """The criterion itself."""
        return find_criterion(self.criterion)

    @property
    def reads_behaviour(self) -> bool:
        """Whether relevance for a behaviour set is asked for."""
        return self.contrast != "general"

    @property
    def reads_general(self) -> bool:
        """Whether relevance or cost for a general set is asked for."""
        return self.contrast != "behaviour"

    def behaviour(self, loaded: LoadedModel, references: ReferenceSet, **options: Any) -> Relevance:
        """R̄_behaviour; `options` are those of `attribute`."""
        return attribute(loaded, references, self.settings, criterion=self.criterion, **options)

    def general(self, loaded: LoadedModel, references: ReferenceSet, **options: Any) -> Relevance:
        """R̄_general, or the cost where that is contrasted with; `options` are those of `attribute`."""
        criterion = COST if self.contrast == "cost" else self.criterion
        settings = replace(self.settings, baseline="zero")
        return attribute(loaded, references, settings, criterion=criterion, **options)

    @property
    def of_general(self) -> tuple[Any, ...]:
        """Rankings for which this is equal have the same `general`."""
        if self.contrast == "cost":
            settings = Settings(self.settings.granularity, modules=self.settings.modules, layers=self.settings.layers)
            return COST.name, settings
        return self.criterion, self.settings

    def scores(self, loaded: LoadedModel, behaviour: ReferenceSet, general: ReferenceSet, **options: Any) -> Relevance:
        """Scores to cut in ascending order; `options` are those of `attribute`."""
        unwanted = self.behaviour(loaded, behaviour, **options) if self.reads_behaviour else None
        kept = self.general(loaded, general, **options) if self.reads_general else None
        return self.contrasted(kept, unwanted)

    def contrasted(self, general: Relevance | None, behaviour: Relevance | None) -> Relevance:
        """Scores to cut in ascending order, of both relevances."""
        scores = contrast(general, behaviour, self.contrast)
        return scores if self.rank is None else limit_rank(scores, self.rank)

    def __str__(self) -> str:
        return f"{self.settings.granularity}s, {self.criterion} {self.contrast}"

    def described(self) -> dict[str, Any]:
        """Criterion, contrast and the settings that had a say, as JSON values."""
        told = asdict(self.settings)
        unused = {"seed", "sign", "random_seed"} - self.found.uses
        answered = ("response", "shown")
        if self.found.reads and self.found.seed is None and self.settings.seed in answered:
            unused.discard("seed")  # what is read then has the responses in it
        if not (self.found.reads and (self.found.seed or self.settings.seed) in answered):
            unused.add("response_tokens")
        unused |= {key for key in ("modules", "layers") if told[key] is None}
        unused |= {"baseline"} if self.settings.baseline == "zero" else set()
        kept = {key: list(value) if isinstance(value, tuple) else value for key, value in told.items()}
        return {
            "criterion": self.criterion,
            **{key: value for key, value in kept.items() if key not in unused},
            "contrast": self.contrast,
            **({} if self.rank is None else {"rank": self.rank}),
        }


@dataclass(frozen=True)
class Cut:
    """How much is cut, and who competes for it: one of `count`, `fraction`, `pattern`, or the two tops.

    Attributes:
        count, fraction, pattern, scope: see `top_k.select`.
        top_behaviour, top_general: see `top_k.set_difference`; it takes the place of the contrast.
    """

    count: int | None = None
    fraction: float | None = None
    pattern: str | None = None
    scope: Scope = "global"
    top_behaviour: float | None = None
    top_general: float | None = None

    def settled(self) -> None:
        """Tell a mistake that shows without a model.

        Raises:
            SelectionError: more or less than one way to say how much, or one that cannot be.
        """
        given = [self.count is not None, self.fraction is not None, self.pattern is not None, self.by_sets]
        if sum(given) != 1:
            raise SelectionError(
                "say in one way how much to cut: a count, a fraction, a pattern, or top_behaviour with top_general"
            )
        if self.by_sets and (self.top_behaviour is None or self.top_general is None or self.scope != "global"):
            raise SelectionError("a set difference needs both top_behaviour and top_general, and no scope")
        for name, top in (("top_behaviour", self.top_behaviour), ("top_general", self.top_general)):
            if top is not None and not 0 < top <= 1:
                raise SelectionError(f"{name} is {top}; it must be over 0 and at most 1")
        if self.pattern is not None:
            parse_pattern(self.pattern)

    def check(self, loaded: LoadedModel, ranking: Ranking) -> None:
        """Tell a mistake before the work.

        Raises:
            SelectionError: as `settled`, or a budget that does not fit the model.
        """
        self.settled()
        if self.by_sets and ranking.rank is not None:
            raise SelectionError("a set difference has no use for a rank: leave it out")
        if self.count is not None or self.fraction is not None:
            total = component_count(loaded, ranking.settings)
            component_budget(total, ranking.settings.granularity, count=self.count, fraction=self.fraction)

    @property
    def by_sets(self) -> bool:
        """Whether it is a set difference."""
        return self.top_behaviour is not None or self.top_general is not None

    def of(
        self, loaded: LoadedModel, ranking: Ranking, behaviour: ReferenceSet, general: ReferenceSet, **options: Any
    ) -> Selected:
        """The components to cut; `options` are those of `attribute`."""
        self.check(loaded, ranking)
        if self.top_behaviour is not None and self.top_general is not None:
            unwanted = ranking.behaviour(loaded, behaviour, **options)
            kept = attribute(loaded, general, ranking.settings, criterion=ranking.criterion, **options)
            return set_difference(kept, unwanted, top_behaviour=self.top_behaviour, top_general=self.top_general)
        scores = ranking.scores(loaded, behaviour, general, **options)
        selected = select(scores, count=self.count, fraction=self.fraction, scope=self.scope, pattern=self.pattern)
        if ranking.rank is not None and any(
            bool(scores.scores[name].view(-1)[torch.from_numpy(cut)].isposinf().any()) for name, cut in selected.items()
        ):
            raise SelectionError(
                f"rows and columns of rank {ranking.rank} hold too few weights: raise it, or cut fewer"
            )
        return selected

    def described(self) -> dict[str, Any]:
        """What was given, as JSON values."""
        told = {key: value for key, value in asdict(self).items() if value is not None and key != "scope"}
        if self.by_sets:
            return {"contrast": "set-difference", "budget": told}
        return {"budget": told} | ({} if self.pattern else {"scope": self.scope})
