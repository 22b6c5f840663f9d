"""The arms of a sweep: ways to choose components, and whether they can be swept together."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, get_args

from correction.attribution.criteria import Settings, find_criterion
from correction.attribution.criteria.scored_modules import component_count
from correction.errors import CriterionError, EvaluationError, SelectionError
from correction.models import LoadedModel
from correction.selection.contrast import Contrast
from correction.selection.ranking import Ranking
from correction.selection.top_k import Scope


@dataclass(frozen=True)
class SweepConfiguration:
    """A way to choose components.

    Attributes:
        label: What it is called in every result; not `base`.
        criterion: By name. Of one that reads no data the contrast has no say: its scores are taken as they are.
        settings: Of the attribution; `random_seed` is taken from the sweep's seeds.
        contrast: Of the general with the behaviour set.
        scope: Who competes for the budget.
    """

    label: str
    criterion: str = "lrp"
    settings: Settings = field(default_factory=Settings.default)
    contrast: Contrast = "difference"
    scope: Scope = "global"

    def __post_init__(self) -> None:
        if not self.label.isprintable() or not self.label.strip() or len(self.label) > 64 or self.label == "base":
            raise EvaluationError(
                f"label {self.label!a:.100} cannot name an arm; use 1 to 64 printable characters, and not 'base', "
                "which is the model as it is"
            )
        find_criterion(self.criterion).check(self.settings)
        if self.contrast not in get_args(Contrast):
            raise CriterionError(
                f"arm {self.label}: contrast {self.contrast!r} does not exist; there is: "
                f"{', '.join(get_args(Contrast))}"
            )
        if self.scope not in get_args(Scope):
            raise SelectionError(
                f"arm {self.label}: scope {self.scope!r} does not exist; there is: {', '.join(get_args(Scope))}"
            )
        if self.scope in ("row", "matrix") and self.settings.granularity != "weight":
            raise SelectionError(
                f"arm {self.label}: scope {self.scope} is for weights, and it cuts {self.settings.granularity}s; "
                "use scope global or layer"
            )

    def ranking(self, seed: int = 0) -> Ranking:
        """What orders the components: the contrast `general` where no data are read, and the seed where it draws."""
        criterion = find_criterion(self.criterion)
        settings = replace(self.settings, random_seed=seed) if "random_seed" in criterion.uses else self.settings
        return Ranking(self.criterion, settings, self.contrast if criterion.reads else "general")

    def seeds(self, seeds: Sequence[int], fraction_of_set: float) -> tuple[int, ...]:
        """The seeds that it is run with: only the first where nothing in it is drawn, so that all would be alike."""
        criterion = find_criterion(self.criterion)
        draws = "random_seed" in criterion.uses or (criterion.reads and fraction_of_set < 1)
        return tuple(seeds if draws else seeds[:1])

    def described(self) -> dict[str, Any]:
        """Everything that decides what it cuts, but for the seed, as JSON values."""
        described = self.ranking().described() | {"scope": self.scope}
        return {key: value for key, value in described.items() if key != "random_seed"}


def check_configurations(
    loaded: LoadedModel, arms: Sequence[SweepConfiguration], counts: Sequence[int], seeds: Sequence[int]
) -> dict[str, int]:
    """Whether these can be swept together.

    Returns:
        Label → how many components the arm scores.

    Raises:
        EvaluationError: No arms or seeds, or one twice.
        SelectionError: Counts that do not ascend or fit.
        CriterionError: An arm whose layers or modules the model does not have.
    """
    labels = [arm.label for arm in arms]
    if not labels or len(set(labels)) < len(labels):
        raise EvaluationError(f"arms must be at least one, each with a label of its own; they are: {labels}")
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise EvaluationError(f"seeds must be at least one, each only once, none under 0; they are: {list(seeds)}")
    if not counts or counts[0] < 1 or any(one >= other for one, other in pairwise(counts)):
        raise SelectionError(f"counts must be at least one, ascending, from 1 on; they are: {list(counts)}")
    sizes = {arm.label: component_count(loaded, arm.settings) for arm in arms}
    for arm in arms:
        if counts[-1] > sizes[arm.label]:
            raise SelectionError(
                f"counts go to {counts[-1]}; this model has {sizes[arm.label]} {arm.settings.granularity}s for the arm "
                f"{arm.label} to cut. Give smaller counts, or leave that arm to a sweep of its own"
            )
    return sizes
