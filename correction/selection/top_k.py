"""Selection: scores → the components to cut, exactly as many as the budget."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from correction.attribution.relevance import Relevance
from correction.choices import Scope
from correction.errors import SelectionError
from correction.selection.contrast import check_same_components
from correction.selection.smallest import k_smallest, k_smallest_in_rows

_LAYER = re.compile(r"(?:neurons|heads)\.(\d+)|weights\.(?:.*\.)?layers\.(\d+)\..*")
_PATTERN = re.compile(r"([0-9]{1,9}):([0-9]{1,9})")


def component_budget(total: int, granularity: str, *, count: int | None = None, fraction: float | None = None) -> int:
    """Number of components to cut of `total`, from one of the two; a fraction is rounded, and cuts at least 1.

    Raises:
        SelectionError: Both or neither given, none or more than there are.
    """
    if (count is None) == (fraction is None):
        raise SelectionError("give a count or a fraction, and only one of them")
    if fraction is not None:
        return _share_of(total, fraction, "fraction")
    if count is None or not 1 <= count <= total:
        raise SelectionError(f"count is {count}; this model has {total} {granularity}s to cut, so 1 to {total}")
    return count


def parse_pattern(pattern: str) -> tuple[int, int]:
    """`N:M` as two numbers: of M consecutive weights along a row, N are cut.

    Raises:
        SelectionError: Something else, or not 0 < N < M.
    """
    match = _PATTERN.fullmatch(pattern)
    if not match:
        raise SelectionError(
            f"pattern {pattern!r} is not N:M; write how many weights to cut, a colon, and of how many consecutive "
            "ones, as 2:4"
        )
    n, m = int(match[1]), int(match[2])
    if not 0 < n < m:
        raise SelectionError(f"pattern {pattern!r} cuts {n} of {m} weights; N:M needs N over 0 and under M, as 2:4")
    return n, m


def select(
    relevance: Relevance,
    *,
    count: int | None = None,
    fraction: float | None = None,
    scope: Scope = "global",
    pattern: str | None = None,
) -> dict[str, NDArray[np.int64]]:
    """The components with the smallest scores: exactly `component_budget` of them, or those of the pattern.

    Of equal scores at the limit, those that come first in component order are cut; −0 equals 0. A component whose score
    is not a number is never cut. Beside the scores this takes memory for the result and a few MiB.

    Args:
        relevance: Scores, of which the smallest are cut.
        count: How many are cut.
        fraction: Or which fraction of all components.
        scope: Which components compete.
            `global`: all components.
            `layer`: the components of one decoder layer, all its matrices together. The budget is shared out in
            proportion to the sizes of the layers by largest remainder; of equal remainders, the earlier layer first.
            `matrix`: the weights of one matrix. The budget is shared out in the same way.
            `row`: the weights of one output row of one matrix. The budget is shared out in proportion to the lengths of
            the rows by largest remainder; of equal remainders, the earlier row in component order first.
        pattern: `N:M`, in place of budget and scope: of every M consecutive weights along a row the N smallest are cut.

    Returns:
        Name of the score → flat indices into it, int64, ascending; only where something is cut.

    Raises:
        SelectionError: A budget, scope or pattern that does not exist or fit, or too few scores that are numbers.
    """
    if scope not in get_args(Scope):
        raise SelectionError(f"scope {scope!r} does not exist; there is: {', '.join(get_args(Scope))}")
    if pattern is not None:
        if count is not None or fraction is not None or scope != "global":
            raise SelectionError(
                f"pattern {pattern!r} says what is cut; leave out count, fraction and scope, or the pattern"
            )
        return _by_pattern(relevance, *parse_pattern(pattern))
    size = component_budget(len(relevance), relevance.granularity, count=count, fraction=fraction)
    if scope == "layer":
        return _by_layer(relevance, size)
    if scope == "matrix":
        return _by_matrix(relevance, size)
    if scope == "row":
        return _by_row(relevance, size)
    return k_smallest(relevance.scores, size)


def set_difference(
    general: Relevance, behaviour: Relevance, *, top_behaviour: float, top_general: float
) -> dict[str, NDArray[np.int64]]:
    """Components that matter most for the behaviour and are not among those that matter most in general.

    top-q(behaviour) ∖ top-p(general) (Wei et al. 2024, arXiv 2402.05162; their safety is our behaviour, their utility
    our general). Each is taken within one score tensor, as their code does: a matrix, or the neurons or heads of a
    layer. A top set holds the highest scores, round(fraction · size) of them and at least 1; of equal ones those that
    come first in component order. Beside the scores this takes memory for the result, and for a copy and the two top
    sets of one tensor.

    Args:
        general: Relevance for the general set.
        behaviour: Relevance for the behaviour set, of the same components.
        top_behaviour: Fraction q, over 0 and at most 1.
        top_general: Fraction p, over 0 and at most 1.

    Returns:
        As `select`.

    Raises:
        CriterionError: The two do not score the same components.
        SelectionError: A fraction out of range, too few scores that are numbers, or nothing left to cut.
    """
    check_same_components(general, behaviour)
    selected = {}
    for name, score in behaviour.scores.items():
        wanted = _largest(name, score, top_behaviour, "top_behaviour")
        kept = _largest(name, general.scores[name], top_general, "top_general")
        flags = np.zeros(score.numel(), np.bool_)
        flags[kept] = True
        if (left := wanted[~flags[wanted]]).size:
            selected[name] = left
    if not selected:
        raise SelectionError(
            f"the top {top_behaviour} by behaviour all lie in the top {top_general} by general relevance, so nothing "
            "is left to cut; raise top_behaviour or lower top_general"
        )
    return selected


def limit_rank(relevance: Relevance, rank: int) -> Relevance:
    """Set the scores of weights to +∞ in each matrix, but for those in `rank` rows and columns.

    What is cut then lies in these alone, so that the change of the matrix has that rank, and a server can apply it to
    each request.

    The rows and columns are those whose scores under 0 add up to the least.
    """
    limited = {}
    for name, score in relevance.scores.items():
        below = score.clamp_max(0)
        lines = torch.cat([below.sum(1), below.sum(0)])
        best = lines.argsort(stable=True)[:rank]
        rows = len(score)
        kept = torch.full_like(score, float("inf"))
        for line in best.tolist():
            part = (line,) if line < rows else (slice(None), line - rows)
            kept[part] = score[part]
        limited[name] = kept
    return replace(relevance, scores=limited)


def components_by_layer(selected: Mapping[str, NDArray[np.int64] | Mapping[int, float]]) -> dict[str, Any]:
    """Selected scores as `masks.for_model` takes them: `neurons` and `heads` by layer, `weights` by parameter.

    A selection may also give index → gate in the place of indices; it is passed on as it is.
    """
    components: dict[str, dict[Any, NDArray[np.int64] | Mapping[int, float]]]
    components = {"neurons": {}, "heads": {}, "weights": {}}
    for name, cut in selected.items():
        kind, _, rest = name.partition(".")
        components[kind][rest if kind == "weights" else int(rest)] = cut
    return components


def _by_layer(relevance: Relevance, size: int) -> dict[str, NDArray[np.int64]]:
    layers: dict[int, dict[str, Tensor]] = {}
    for name, score in relevance.scores.items():
        if not (match := _LAYER.fullmatch(name)):
            raise SelectionError(f"{name} is of no decoder layer; leave it out, or use scope global or row")
        layers.setdefault(int(match[1] or match[2]), {})[name] = score
    order = sorted(layers)
    shares = _shares(size, [(1, sum(score.numel() for score in layers[layer].values())) for layer in order])
    selected = {}
    for layer, (share, extra) in zip(order, shares, strict=True):
        if share + extra:
            selected.update(k_smallest(layers[layer], share + extra))
    return {name: selected[name] for name in relevance.scores if name in selected}


def _by_matrix(relevance: Relevance, size: int) -> dict[str, NDArray[np.int64]]:
    scores = _matrices(relevance, "scope matrix")
    shares = _shares(size, [(1, score.numel()) for score in scores.values()])
    selected: dict[str, NDArray[np.int64]] = {}
    for (name, score), (share, extra) in zip(scores.items(), shares, strict=True):
        if share + extra:
            selected.update(k_smallest({name: score}, share + extra))
    return selected


def _by_row(relevance: Relevance, size: int) -> dict[str, NDArray[np.int64]]:
    scores = _matrices(relevance, "scope row")
    shares = _shares(size, [(score.shape[0], score.shape[1]) for score in scores.values()])
    pairs = zip(scores.items(), shares, strict=True)
    return {name: k_smallest_in_rows(name, score, *share) for (name, score), share in pairs if any(share)}


def _by_pattern(relevance: Relevance, n: int, m: int) -> dict[str, NDArray[np.int64]]:
    scores = _matrices(relevance, f"pattern {n}:{m}")
    for name, score in scores.items():
        if score.shape[1] % m:
            raise SelectionError(
                f"{name} has {score.shape[1]} columns, which are not divisible by the {m} of pattern {n}:{m}; leave "
                f"that matrix out, or use a pattern whose second number divides {score.shape[1]}"
            )
    return {name: k_smallest_in_rows(name, score.reshape(-1, m), n) for name, score in scores.items()}


def _matrices(relevance: Relevance, what: str) -> Mapping[str, Tensor]:
    for name, score in relevance.scores.items():
        if not name.startswith("weights.") or score.dim() != 2:
            raise SelectionError(
                f"{what} is for the weights of matrices, and {name} has shape {tuple(score.shape)}; "
                "score weights (granularity weight), or use scope global or layer"
            )
    return relevance.scores


def _shares(size: int, groups: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """`size` shared out over groups, (how many there are, size of each), in proportion, by largest remainder.

    Returns:
        For each pair: what each of its groups gets, and how many of them, the first ones, get one more.
    """
    total = sum(number * length for number, length in groups)
    shares = [size * length // total for _, length in groups]
    left = size - sum(number * share for (number, _), share in zip(groups, shares, strict=True))
    extra = [0] * len(groups)
    for index in sorted(range(len(groups)), key=lambda index: -(size * groups[index][1] % total)):  # stable
        extra[index] = min(left, groups[index][0])
        left -= extra[index]
    return list(zip(shares, extra, strict=True))


def _largest(name: str, score: Tensor, fraction: float, what: str) -> NDArray[np.int64]:
    return k_smallest({name: -score}, _share_of(score.numel(), fraction, what))[name]


def _share_of(total: int, fraction: float, what: str) -> int:
    if not 0 < fraction <= 1:
        raise SelectionError(f"{what} is {fraction}; it must be over 0 and at most 1")
    return max(1, round(fraction * total))
