"""A ranking: what orders the components that may be cut, from the two reference sets."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from correction.attribution.attribution import attribute
from correction.attribution.criteria import Criterion, Settings, find_criterion
from correction.attribution.criteria.cost import COST
from correction.attribution.relevance import Granularity, Relevance
from correction.data.references import ReferenceSet
from correction.errors import CriterionError
from correction.models import LoadedModel
from correction.selection.contrast import Contrast, contrast
from correction.selection.top_k import limit_rank

COSTED = ("lrp", "gradient")
"""Criteria that estimate what a cut does to an output: the gain, to be divided by the cost."""


@dataclass(frozen=True)
class Ranking:
    """What orders components: a criterion, its settings, and the contrast between the two reference sets.

    Attributes:
        criterion: Name, see `criteria`.
        settings: Of the criterion.
        contrast: See `contrast`; `general` where the criterion reads no data, so that both sets score the same.
        rank: For weights, in how many rows and columns of a matrix they may be cut: see `limit_rank`; None for all.

    Raises:
        CriterionError: The criterion does not exist, cannot score what the settings ask for, or reads no data and is
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
        self.resolved_criterion.check(self.settings)
        if self.contrast != "general" and not self.resolved_criterion.reads:
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
    def resolved_criterion(self) -> Criterion:
        """The criterion that `criterion` names."""
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
        behaviour_relevance = self.behaviour(loaded, behaviour, **options) if self.reads_behaviour else None
        general_relevance = self.general(loaded, general, **options) if self.reads_general else None
        return self.contrasted(general_relevance, behaviour_relevance)

    def contrasted(self, general: Relevance | None, behaviour: Relevance | None) -> Relevance:
        """Scores to cut in ascending order, of both relevances."""
        scores = contrast(general, behaviour, self.contrast)
        return scores if self.rank is None else limit_rank(scores, self.rank)

    def __str__(self) -> str:
        return f"{self.settings.granularity}s, {self.criterion} {self.contrast}"

    def described(self) -> dict[str, Any]:
        """Criterion, contrast and the settings that the criterion used, as JSON values."""
        settings = asdict(self.settings)
        unused = {"seed", "sign", "random_seed"} - self.resolved_criterion.uses
        answered = ("response", "shown")
        if self.resolved_criterion.reads and self.resolved_criterion.seed is None and self.settings.seed in answered:
            unused.discard("seed")  # what is read then has the responses in it
        if not (self.resolved_criterion.reads and (self.resolved_criterion.seed or self.settings.seed) in answered):
            unused.add("response_tokens")
        unused |= {key for key in ("modules", "layers") if settings[key] is None}
        unused |= {"baseline"} if self.settings.baseline == "zero" else set()
        used = {key: value for key, value in settings.items() if key not in unused}
        return {
            "criterion": self.criterion,
            **{key: list(value) if isinstance(value, tuple) else value for key, value in used.items()},
            "contrast": self.contrast,
            **({} if self.rank is None else {"rank": self.rank}),
        }
