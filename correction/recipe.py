"""A recipe: everything that decides which components are cut, but for the reference sets."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from correction.attribution import attribute
from correction.contrast import RATIOS, Contrast, contrast, less
from correction.criteria import Criterion, Settings, Sign, find
from correction.criteria.scored import size
from correction.errors import CriterionError, SelectionError
from correction.models import LoadedModel
from correction.references import ReferenceSet
from correction.relevance import Relevance
from correction.selection import Scope, budget, parse_pattern, select, set_difference

Selected = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Ranking:
    """What orders components: a criterion, its settings, and the contrast between the two reference sets.

    Attributes:
        criterion, settings: see `criteria`.
        contrast: see `contrast`; None stands for `difference`, and for `general` where the criterion reads no data, so
            that both sets score the same. A ratio takes the behaviour's relevance signed and the general one absolute,
            whatever the settings say.

    Raises:
        CriterionError: the criterion does not exist, cannot score what the settings ask for, or reads no data and is
            asked for a contrast between two sets.
    """

    criterion: str = "lrp"
    settings: Settings = field(default_factory=Settings.default)
    contrast: Contrast | None = None

    def __post_init__(self) -> None:
        self.found.check(self.settings)
        if self.contrast not in (None, "general") and not self.found.reads:
            raise CriterionError(
                f"{self.criterion} reads no data, so both sets score the same and their {self.contrast} is nothing; "
                "leave the contrast out"
            )

    @property
    def found(self) -> Criterion:
        """The criterion itself."""
        return find(self.criterion)

    @property
    def kind(self) -> Contrast:
        """The contrast that is taken."""
        return self.contrast or ("difference" if self.found.reads else "general")

    def relevance(self, loaded: LoadedModel, references: ReferenceSet, **options: Any) -> Relevance:
        """Relevance for one reference set; `options` are those of `attribute`."""
        return attribute(loaded, references, self.settings, criterion=self.criterion, **options)

    def scores(
        self,
        loaded: LoadedModel,
        behaviour: ReferenceSet,
        general: ReferenceSet,
        *,
        spared: ReferenceSet | None = None,
        **options: Any,
    ) -> Relevance:
        """Scores to cut in ascending order.

        Args:
            spared: for a ratio, prompts with responses that do not show the behaviour: their relevance is taken from
                the behaviour's, so that what tells the two kinds of response apart is cut, and not what all share.
            options: those of `attribute`.
        """
        if self.kind == "general":
            return self.relevance(loaded, general, **options)
        if self.kind not in RATIOS:
            unwanted = self.relevance(loaded, behaviour, **options)
            return contrast(self.relevance(loaded, general, **options), unwanted, self.kind)
        signed, absolute = (replace(self, settings=replace(self.settings, sign=sign)) for sign in get_args(Sign))
        unwanted = signed.relevance(loaded, behaviour, **options)
        if spared is not None:
            unwanted = less(unwanted, signed.relevance(loaded, spared, **options))
        return contrast(absolute.relevance(loaded, general, **options), unwanted, self.kind)

    def described(self) -> dict[str, Any]:
        """Criterion, contrast and the settings that had a say, as JSON values."""
        told = asdict(self.settings)
        unused = {"seed", "sign", "random_seed"} - self.found.uses
        if self.found.reads and self.found.seed is None and self.settings.seed == "response":
            unused.discard("seed")  # what is read then has the responses in it
        if self.kind in RATIOS:
            unused.add("sign")
        if not (self.found.reads and (self.found.seed or self.settings.seed) == "response"):
            unused.add("response_tokens")
        unused |= {key for key in ("modules", "layers") if told[key] is None}
        kept = {key: list(value) if isinstance(value, tuple) else value for key, value in told.items()}
        return {
            "criterion": self.criterion,
            **{key: value for key, value in kept.items() if key not in unused},
            "contrast": self.kind,
        }


@dataclass(frozen=True)
class Cut:
    """How much is cut, and who competes for it: one of `count`, `fraction`, `pattern`, or the two tops.

    Attributes:
        count, fraction, pattern, scope: see `selection.select`.
        top_behaviour, top_general: see `selection.set_difference`; it takes the place of the contrast.
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
        if self.by_sets and ranking.contrast is not None:
            raise SelectionError("a set difference takes the place of the contrast; leave the contrast out")
        if self.count is not None or self.fraction is not None:
            total = size(loaded, ranking.settings)
            budget(total, ranking.settings.granularity, count=self.count, fraction=self.fraction)

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
            unwanted = ranking.relevance(loaded, behaviour, **options)
            kept = ranking.relevance(loaded, general, **options)
            return set_difference(kept, unwanted, top_behaviour=self.top_behaviour, top_general=self.top_general)
        scores = ranking.scores(loaded, behaviour, general, **options)
        return select(scores, count=self.count, fraction=self.fraction, scope=self.scope, pattern=self.pattern)

    def described(self) -> dict[str, Any]:
        """What was given, as JSON values."""
        told = {key: value for key, value in asdict(self).items() if value is not None and key != "scope"}
        if self.by_sets:
            return {"contrast": "set-difference", "budget": told}
        return {"budget": told} | ({} if self.pattern else {"scope": self.scope})
