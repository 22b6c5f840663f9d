"""`excise correct`: make a mask."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from correction.commands.options import (
    Behaviour,
    Contrast,
    Criterion,
    Dtype,
    General,
    Granularity,
    Json,
    Model,
    NewTokens,
    Raw,
    Samples,
    Scope,
    Scorer,
    Seed,
    Shows,
    Sign,
    Temperature,
    Threshold,
    Tokens,
    check_fraction,
    within,
    writable,
)
from correction.commands.references import told
from correction.terminal import count_of, described, front, measured, out, print_json, progress_bars, warn

if TYPE_CHECKING:
    from correction.criteria import Settings
    from correction.recipe import Ranking


def correct(
    model: Model,
    behaviour: Behaviour,
    general: General,
    name: Annotated[str, typer.Option(help="Name of the mask.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Mask file to write.")],
    criterion: Annotated[Criterion | None, typer.Option(help="Relevance by this criterion; default: lrp.")] = None,
    granularity: Annotated[
        list[Granularity] | None, typer.Option(help="What to cut, default: neuron. A search may take several.")
    ] = None,
    count: Annotated[int | None, typer.Option(help="How many to cut.")] = None,
    fraction: Annotated[float | None, typer.Option(help="Or which fraction of them.")] = None,
    pattern: Annotated[str | None, typer.Option(help="Or N:M weights of every M in a row, as 2:4.")] = None,
    top_behaviour: Annotated[
        float | None, typer.Option(help="Or the top fraction by behaviour relevance, less --top-general.")
    ] = None,
    top_general: Annotated[float | None, typer.Option(help="The top fraction by general relevance to keep.")] = None,
    max_perplexity_increase: Annotated[
        str | None, typer.Option(help="Or search for the mask that leaves least for at most this, as 1%.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Of a search: each attributes anew; default: 2.", min=1)] = None,
    validation: Annotated[
        float | None, typer.Option(help="Of a search: fraction of the rest to choose by; default: 0.25.")
    ] = None,
    scope: Annotated[Scope, typer.Option(help="Which components compete for the budget.")] = Scope.everywhere,
    contrast: Annotated[
        Contrast | None, typer.Option(help="What is cut: the smallest general - behaviour, or general alone.")
    ] = None,
    modules: Annotated[str | None, typer.Option(help="For weights: matrices, by last name, comma-separated.")] = None,
    layers: Annotated[str | None, typer.Option(help="Decoder layers to cut in, as 0,3-7; default: all.")] = None,
    seed: Annotated[
        Seed | None, typer.Option(help="Output whose relevance is propagated; next: where the model would go on.")
    ] = None,
    sign: Annotated[
        Sign | None,
        typer.Option(help="Keep the sign of relevance or not; default: absolute for neurons, signed for weights."),
    ] = None,
    random_seed: Annotated[int | None, typer.Option(help="Of the criterion random; default: 0.", min=0)] = None,
    shows: Shows = "toxicity",
    threshold: Threshold = None,
    filter: Annotated[
        bool, typer.Option("--filter/--no-filter", help="Keep only the prompts whose responses show the behaviour.")
    ] = True,
    held_out: Annotated[float, typer.Option(help="Fraction of each set kept for measuring.")] = 0.25,
    split_seed: Annotated[int, typer.Option(help="Of that split.", min=0)] = 0,
    max_length: Annotated[int | None, typer.Option(help="Longest sample, tokens; texts are cut there.", min=2)] = None,
    max_new_tokens: NewTokens = 50,
    samples: Samples = 1,
    temperature: Temperature = 0.0,
    dtype: Dtype = "auto",
    raw: Raw = False,
    scorer: Scorer = "profanity",
    tokens: Tokens = 4096,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Compute decoder layers twice and keep little: long sequences.")
    ] = False,
    scores_in: Annotated[Path | None, typer.Option(help="Folder for scores, memory-mapped, instead of memory.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Folder for a journal: run the same command again to go on after a stop.")
    ] = None,
    shard: Annotated[
        bool, typer.Option("--shard", help="Under torchrun: each process holds a part of every layer (FSDP2).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a mask against a behaviour, measured on held-out prompts and text.

    Relevance is averaged over the behaviour set and the general set; what is relevant to the behaviour rather than to
    the general text is cut. Of the prompts that are not held out, those are attributed whose responses show the
    behaviour. With --max-perplexity-increase several rankings propose cuts, unless --criterion, --contrast, --seed or
    --sign names one, and ablation on a validation split chooses.
    """
    import masks
    from behaviours import load_scorer
    from correction import distributed, models
    from correction.behaviour_set import build
    from correction.behaviour_set import shows as symptom
    from correction.correct import correct as by_count
    from correction.criteria import Settings
    from correction.recipe import Cut, Ranking
    from correction.references import overlap, read
    from correction.search import candidates
    from correction.within import correct_within
    from masks.meta import check_name

    check_name(name)
    writable(output, "-o")
    check_fraction(held_out, "--held-out")
    for option, folder in (("--resume", resume), ("--scores-in", scores_in)):
        if folder is not None:
            if not folder.exists():
                within(folder.parent, option)
                continue
            within(folder, option)
    kinds = granularity or [Granularity.neuron]
    cut = Cut(count, fraction, pattern, scope.value, top_behaviour, top_general)
    budget = None if max_perplexity_increase is None else _percentage(max_perplexity_increase)
    if budget is not None and cut != Cut():
        raise typer.BadParameter("a search finds out how much to cut: leave the other budgets and --scope out")
    _refuse_unused(
        budget is not None, filter, shows != "toxicity" or threshold is not None, len(kinds) > 1, rounds, validation
    )
    if budget is None:
        if cut == replace(Cut(), scope=cut.scope):
            raise typer.BadParameter(
                "say in one way how much to cut: --max-perplexity-increase, --count, --fraction, --pattern, or "
                "--top-behaviour with --top-general"
            )
        cut.settled()
        if pattern is not None and kinds != [Granularity.weight]:
            raise typer.BadParameter("--pattern is for weights: give --granularity weight")
    chosen: dict[str, Any] = {
        "modules": tuple(modules.split(",")) if modules else None,
        "layers": _layers(layers) if layers else None,
        "random_seed": random_seed,
        "response_tokens": max_new_tokens,
    }
    asked = {"seed": seed and seed.value, "sign": sign and sign.value}

    def given(settings: "Settings", **more: Any) -> "Settings":
        return replace(settings, **{key: value for key, value in {**chosen, **more}.items() if value is not None})

    rankings = [
        Ranking(criterion.value if criterion else "lrp", settings, contrast.value if contrast else None)
        for settings in (given(Settings.default(kind.value), **asked) for kind in kinds)
    ]
    for ranking in rankings:
        _refuse_unheard(ranking, seed, sign, random_seed)
    if budget is not None and not (criterion or contrast or seed or sign):
        default = [each for kind in kinds for each in candidates(kind.value)]
        rankings = [replace(each, settings=given(each.settings)) for each in default]
    test = symptom(shows, scorer=scorer, threshold=threshold) if filter or budget is not None else None
    prompts, text = read(behaviour, kind="prompt"), read(general, kind="text")
    asking: dict[str, Any] = {"raw": raw, "max_new_tokens": max_new_tokens, "tokens": tokens}
    asking |= {"samples": samples, "temperature": temperature}
    work: dict[str, Any] = {"raw": raw, "max_length": max_length, "tokens": tokens, "checkpointing": checkpointing}
    work |= {"scores_in": scores_in, "resume": resume}
    common: dict[str, Any] = {"name": name, "held_out": held_out, "split_seed": split_seed, "attribution": work}
    toxicity = load_scorer(scorer)
    found = None
    with distributed.joined(), progress_bars(shown=distributed.rank() == 0) as progress:
        if shard and distributed.processes() == 1:
            raise typer.BadParameter(
                "there is one process, with nobody to share with; start several, as with: "
                "torchrun --nproc-per-node 2 -m excise correct --shard",
                param_hint="--shard",
            )
        loaded = models.load(model, dtype=dtype, device="cpu" if shard else None)
        if shard:
            distributed.shard(loaded)
        common["progress"] = progress
        shared = overlap(prompts, text)
        if len(shared) == len(prompts):
            raise typer.BadParameter("every behaviour prompt is in the general set: the two must differ")
        if shared and distributed.rank() == 0:
            warn(f"{len(shared)} behaviour prompts are in the general set too")
        if budget is not None and test is not None:
            common |= {"max_increase": budget, "rankings": rankings, "rounds": rounds or 2}
            common["validation"] = 0.25 if validation is None else validation
            corrected = correct_within(loaded, prompts, text, test, scorer=toxicity, asking=asking, **common)
            mask, found = corrected.mask, corrected.found
            if corrected.over:
                warn(f"on the held-out text the increase may be over {budget:.2%}: see below")
        else:
            cut.check(loaded, rankings[0])
            made: dict[str, Any] = {}
            if test is not None:
                prompts, common["held_out_behaviour"] = prompts.split(held_out, split_seed)
                answered = build(loaded, prompts, test, progress=progress, **asking)
                prompts, made = answered.kept, {"filter": answered.described()}
                if distributed.rank() == 0:
                    told(answered)
            evaluation = {**asking, "scorer": toxicity}
            common |= {"cut": cut, "ranking": rankings[0], "evaluation": evaluation, "made": made}
            mask = by_count(loaded, prompts, text, **common)
        if distributed.rank() > 0:
            return
    masks.save(mask, output)
    if as_json:
        print_json(described(mask) | ({"front": [each.described() for each in found.front]} if found else {}))
        return
    if found:
        out.print(front(found))
    out.print(f"{output}: {count_of(mask)} cut, digest {mask.digest}", soft_wrap=True)
    out.print(measured(mask))


def _refuse_unused(
    searching: bool,
    filtering: bool,
    symptom: bool,
    several: bool,
    rounds: int | None,
    validation: float | None,
) -> None:
    """An option that would have no say is a mistake, and told."""
    if searching and not filtering:
        raise typer.BadParameter("a search always lets the model answer first: leave --no-filter out")
    if not searching and (rounds is not None or validation is not None):
        raise typer.BadParameter("--rounds and --validation are for a search: give --max-perplexity-increase")
    if not searching and several:
        raise typer.BadParameter("several granularities are for a search: give --max-perplexity-increase")
    if not filtering and symptom:
        raise typer.BadParameter("--shows and --threshold say what the filter keeps: leave them or --no-filter out")


def _refuse_unheard(ranking: "Ranking", seed: Seed | None, sign: Sign | None, random_seed: int | None) -> None:
    criterion = ranking.found
    for option, given, heard in (
        ("--seed", seed, criterion.reads and criterion.seed in (None, seed and seed.value)),
        ("--sign", sign, "sign" in criterion.uses and ranking.kind not in ("ratio", "squared-ratio")),
        ("--random-seed", random_seed, "random_seed" in criterion.uses),
    ):
        if given is not None and not heard:
            raise typer.BadParameter(
                f"{criterion.name}, contrast {ranking.kind}, has no use for {option}: leave it out"
            )


def _percentage(spec: str) -> float:
    """`1%` or `0.01` as 0.01."""
    try:
        value = float(spec.removesuffix("%")) / (100 if spec.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < (10 if spec.endswith("%") else 1):
        raise typer.BadParameter(
            f"{spec!r} is no increase; write it as 1% or 0.01", param_hint="--max-perplexity-increase"
        )
    return value


def _layers(spec: str) -> tuple[int, ...]:
    """`0,3-7` as numbers."""
    found: list[int] = []
    for part in spec.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
            raise typer.BadParameter(f"{part!r} is no layer and no range, as 3 or 3-7", param_hint="--layers")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)
