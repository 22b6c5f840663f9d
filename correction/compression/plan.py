"""What is cut: a method, how much, and among whom."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from correction.attribution.criteria import OutputSeed, find_criterion
from correction.compression.matrices import linear_matrices
from correction.errors import CompressionError, SelectionError
from correction.models import LoadedModel
from correction.selection.top_k import Scope, parse_pattern


@dataclass(frozen=True)
class Method:
    """A way to choose weights.

    Attributes:
        criterion: Of `attribution.criteria` that scores all weights from whole passes through the model; None where
            there is none.
        scope: Among whom weights compete, unless asked otherwise: as in the method's source.
        local: It needs only what enters a matrix, so that it can go block by block, on inputs that are pruned already.
        mends: It changes the weights that stay, so that its result is no mask.
    """

    criterion: str | None
    scope: Scope
    local: bool = False
    mends: bool = False


METHODS: dict[str, Method] = {
    "magnitude": Method("magnitude", "matrix"),
    "wanda": Method("wanda", "row", local=True),
    "ria": Method(None, "matrix", local=True),
    "sparsegpt": Method(None, "matrix", local=True, mends=True),
    "lrp": Method("lrp", "row"),
    "gradient": Method("gradient", "row"),
    "snip": Method("snip", "row"),
    "random": Method("random", "row"),
}
"""SparseGPT's competitors are the columns of one matrix that it takes at one time (`sparsegpt.WIDTH`)."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides which weights are cut, but for the model and the text.

    Attributes:
        method: One of `METHODS`.
        fraction: Of the weights; None for a pattern.
        scope: `row`, `matrix`, `layer`, `global`; None for the method's own.
        pattern: `N:M`: of every M consecutive weights along a row, N are cut; in place of fraction and scope.
        sequential: Whether a block's statistics are of inputs that the cut blocks before it made; None: where the
            method can.
        sign: Of LRP and gradient. `absolute`: the mean of |R_s| over the windows s. `signed`: |R̄|, the magnitude of
            the mean, in which the relevance of a weight in one window cancels that in another: far worse
            (benchmarks/RESULTS.md).
        output: What their relevance starts from, see `criteria.Settings.seed`; `last` is SparC³'s.
        seed: Of the method `random`.
    """

    method: str = "wanda"
    fraction: float | None = None
    scope: Scope | None = None
    pattern: str | None = None
    sequential: bool | None = None
    sign: Literal["absolute", "signed"] = "absolute"
    output: OutputSeed = "last"
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_budget()
        self._check_method()

    def _check_choices(self) -> None:
        """Each field of few values has one of them."""
        if self.method not in METHODS:
            raise CompressionError(f"method {self.method!r} does not exist; there is: {', '.join(METHODS)}")
        if self.sign not in ("absolute", "signed"):
            raise CompressionError(f"sign {self.sign!r} does not exist; there is: absolute, signed")
        if self.output not in ("last", "next", "all", "contrastive", "response"):
            raise CompressionError(
                f"a text has no output {self.output!r}; there is: last, next, all, contrastive, response"
            )
        if self.scope is not None and self.scope not in get_args(Scope):
            raise SelectionError(f"scope {self.scope!r} does not exist; there is: {', '.join(get_args(Scope))}")

    def _check_budget(self) -> None:
        """There is either a pattern or a fraction."""
        if self.pattern is not None:
            if self.fraction is not None or self.scope is not None:
                raise CompressionError(f"pattern {self.pattern!r} says what is cut; leave out fraction and scope")
            parse_pattern(self.pattern)
        elif self.fraction is None or not 0 < self.fraction < 1:
            raise CompressionError(f"fraction is {self.fraction}; it must be over 0 and under 1, or give a pattern")

    def _check_method(self) -> None:
        """The method can go block by block, or not, as asked, and compare weights in that scope."""
        method = METHODS[self.method]
        if self.sequential and not method.local:
            local = ", ".join(name for name, each in METHODS.items() if each.local)
            raise CompressionError(
                f"{self.method} scores weights by whole passes through the model, or by none, and cannot go block by "
                f"block; sequential is for: {local}"
            )
        if method.mends and self.sequential is False:
            raise CompressionError(f"{self.method} is defined block by block: leave out --no-sequential")
        if method.mends and self.scope not in (None, method.scope):
            raise CompressionError(
                f"{self.method} ranks weights within parts of a matrix: leave out scope {self.scope}"
            )
        if self.by_block and self.scope == "global":
            raise CompressionError(
                "scope global compares weights of all blocks, and block by block the later ones have no scores yet; "
                "use --no-sequential, or another scope"
            )

    @property
    def by_block(self) -> bool:
        """Whether it goes block by block on inputs that are pruned already."""
        return METHODS[self.method].local if self.sequential is None else self.sequential

    def budget(self) -> dict[str, Any]:
        """As arguments of `top_k.select`."""
        if self.pattern is not None:
            return {"pattern": self.pattern}
        return {"fraction": self.fraction, "scope": self.scope or METHODS[self.method].scope}

    def check(self, loaded: LoadedModel) -> None:
        """Refuse a pattern that does not divide a matrix, before the work.

        Raises:
            CompressionError: It does not.
        """
        if self.pattern is None:
            return
        _, m = parse_pattern(self.pattern)
        for place in linear_matrices(loaded):
            if place.shape[1] % m:
                raise CompressionError(
                    f"{place.name} has {place.shape[1]} columns, which are not divisible by the {m} of {self.pattern}"
                )

    def described(self) -> dict[str, Any]:
        """As masks and checkpoints record it: fields that are None are left out, defaults are not."""
        described = {key: value for key, value in asdict(self).items() if value is not None}
        criterion = METHODS[self.method].criterion
        uses = find_criterion(criterion).uses if criterion else frozenset()
        for field, setting in (("sign", "sign"), ("output", "seed"), ("seed", "random_seed")):
            if setting not in uses:
                del described[field]
        return {**described, **self.budget(), "sequential": self.by_block}
