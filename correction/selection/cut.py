"""A cut: how many components of a ranking are cut, and among whom they compete."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from correction.attribution.attribution import attribute
from correction.attribution.criteria.scored_modules import component_count
from correction.data.references import ReferenceSet
from correction.errors import SelectionError
from correction.models import LoadedModel
from correction.selection.ranking import Ranking
from correction.selection.top_k import Scope, component_budget, parse_pattern, select, set_difference

Selected = Mapping[str, NDArray[np.int64]]
"""Name of a score → flat indices of the components that are cut, ascending."""


@dataclass(frozen=True)
class Cut:
    """How much is cut, and which components compete: one of `count`, `fraction`, `pattern`, or the two tops.

    Attributes:
        count: How many are cut.
        fraction: Or which fraction of them.
        pattern: Or `N:M`, see `top_k.select`.
        scope: Which components compete, see `top_k.select`.
        top_behaviour: Top fraction by behaviour relevance, see `top_k.set_difference`; it takes the place of the
            contrast.
        top_general: Top fraction by general relevance that is kept.
    """

    count: int | None = None
    fraction: float | None = None
    pattern: str | None = None
    scope: Scope = "global"
    top_behaviour: float | None = None
    top_general: float | None = None

    def check_budget(self) -> None:
        """Check what can be checked without a model.

        Raises:
            SelectionError: More or less than one way to say how much, or one that cannot be.
        """
        ways = [self.count is not None, self.fraction is not None, self.pattern is not None, self.by_sets]
        if sum(ways) != 1:
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
        """Check against a model, before the work.

        Raises:
            SelectionError: As `check_budget`, or a budget that does not fit the model.
        """
        self.check_budget()
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
            behaviour_relevance = ranking.behaviour(loaded, behaviour, **options)
            general_relevance = attribute(loaded, general, ranking.settings, criterion=ranking.criterion, **options)
            tops = {"top_behaviour": self.top_behaviour, "top_general": self.top_general}
            return set_difference(general_relevance, behaviour_relevance, **tops)
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
        budget = {key: value for key, value in asdict(self).items() if value is not None and key != "scope"}
        if self.by_sets:
            return {"contrast": "set-difference", "budget": budget}
        return {"budget": budget} | ({} if self.pattern else {"scope": self.scope})
