"""The options of `excise correct`: which go together, and the rankings that they name."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from commands.cli_options import check_writable_folder
from correction.choices import Baseline, Contrast, CriterionName, Granularity, OutputSeed, Scope, Sign

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from correction.selection.cut import Cut
    from correction.selection.ranking import Ranking


def check_folders(folders: "Mapping[str, Path | None]") -> None:
    """Refuse a folder, by option, that can be neither written into nor made."""
    for option, folder in folders.items():
        if folder is not None:
            check_writable_folder(folder if folder.exists() else folder.parent, option)


def check_search(filtering: bool, scope: Scope) -> None:
    """Refuse options that a search does not use."""
    if not filtering:
        raise typer.BadParameter("a search always lets the model answer first: leave --no-filter out, or say --count")
    if scope != "global":
        raise typer.BadParameter("a search finds out how much to cut: leave --scope out, or say --count")


def check_count(cut: "Cut", search_options: "Mapping[str, Any]") -> None:
    """Refuse options that only a search uses, and a cut that is not defined in exactly one way."""
    for option, value in search_options.items():
        if value is not None:
            raise typer.BadParameter(f"{option} is for a search, which finds out how much to cut: leave the count out")
    cut.check_budget()


def check_filter(filtering: bool, shows: str, threshold: float | None, baseline: Baseline | None) -> None:
    """Refuse options that need the responses of the filter, where it is off."""
    if filtering:
        return
    if shows != "toxicity" or threshold is not None:
        raise typer.BadParameter("--shows and --threshold say what the filter keeps: leave them or --no-filter out")
    if baseline == "spared":
        raise typer.BadParameter("only answers tell which prompts have both kinds of responses: leave --no-filter out")


def check_weight_options(granularities: "Sequence[Granularity]", pattern: str | None, rank: int | None) -> None:
    """Refuse options of weights for anything else."""
    if granularities == ["weight"]:
        return
    if pattern is not None:
        raise typer.BadParameter("--pattern is for weights: give --granularity weight")
    if rank is not None:
        raise typer.BadParameter("--rank is of weight matrices: give --granularity weight", param_hint="--rank")


def check_used(ranking: "Ranking", seed: OutputSeed | None, sign: Sign | None, random_seed: int | None) -> None:
    """Refuse an option that the ranking's criterion does not use."""
    criterion = ranking.resolved_criterion
    uses_seed = criterion.reads and criterion.seed in (None, seed)
    for option, given, used in (
        ("--seed", seed, uses_seed),
        ("--sign", sign, "sign" in criterion.uses),
        ("--random-seed", random_seed, "random_seed" in criterion.uses),
    ):
        if given is not None and not used:
            raise typer.BadParameter(
                f"{criterion.name}, contrast {ranking.contrast}, has no use for {option}: leave it out"
            )


def default_rankings(granularities: "Sequence[Granularity]", settings: "Mapping[str, Any]") -> "list[Ranking]":
    """The rankings that a search tries where the user names none, for every granularity."""
    from correction.search.mask_search import candidates

    rankings = [ranking for granularity in granularities for ranking in candidates(granularity)]
    return [replace(ranking, settings=replace(ranking.settings, **settings)) for ranking in rankings]


def named_rankings(
    granularities: "Sequence[Granularity]",
    criterion: CriterionName | None,
    contrast: Contrast | None,
    by_sets: bool,
    settings: "Mapping[str, Any]",
) -> "list[Ranking]":
    """One ranking for each granularity, by the criterion and contrast that the user names."""
    from correction.selection.ranking import Ranking

    name = criterion or "lrp"
    kind: Any = "difference" if by_sets else contrast
    return [Ranking.default(name, granularity, kind, **settings) for granularity in granularities]


def percentage(spec: str, option: str) -> float:
    """`1%` or `0.01` as 0.01."""
    try:
        value = float(spec.removesuffix("%")) / (100 if spec.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < (10 if spec.endswith("%") else 1):
        raise typer.BadParameter(f"{spec!r} is no increase; write it as 1% or 0.01", param_hint=option)
    return value


def parse_layers(spec: str) -> tuple[int, ...]:
    """`0,3-7` as numbers."""
    layers: list[int] = []
    for part in spec.split(","):
        first, _, last = part.partition("-")
        last = last or first
        if not first.isdecimal() or not last.isdecimal() or int(last) < int(first):
            raise typer.BadParameter(f"{part!r} is no layer and no range, as 3 or 3-7", param_hint="--layers")
        layers += range(int(first), int(last) + 1)
    return tuple(layers)
