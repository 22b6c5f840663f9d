"""`excise correct`: make a mask."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast

import typer

from commands.cli_options import (
    Behaviour,
    Dtype,
    General,
    Json,
    Model,
    NewTokens,
    Raw,
    Samples,
    Scorer,
    Shows,
    Temperature,
    Threshold,
    Tokens,
    check_fraction,
    check_writable_file,
    several,
)
from commands.correct_options import (
    check_count,
    check_filter,
    check_folders,
    check_search,
    check_used,
    check_weight_options,
    default_rankings,
    named_rankings,
    parse_layers,
    percentage,
)
from correction.choices import Baseline, Contrast, CriterionName, Granularity, OutputSeed, Scope, Sign


def correct(
    model: Model,
    behaviour: Behaviour,
    general: General,
    name: Annotated[str, typer.Option(help="Name of the mask.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Mask file to write.")],
    criterion: Annotated[CriterionName | None, typer.Option(help="Relevance by this criterion; default: lrp.")] = None,
    granularity: Annotated[
        list[str] | None, several(Granularity, "What to cut, default: neuron. A search may take several.")
    ] = None,
    count: Annotated[int | None, typer.Option(help="How many to cut.")] = None,
    fraction: Annotated[float | None, typer.Option(help="Or which fraction of them.")] = None,
    pattern: Annotated[str | None, typer.Option(help="Or N:M weights of every M in a row, as 2:4.")] = None,
    top_behaviour: Annotated[
        float | None, typer.Option(help="Or the top fraction by behaviour relevance, less --top-general.")
    ] = None,
    top_general: Annotated[float | None, typer.Option(help="The top fraction by general relevance to keep.")] = None,
    max_perplexity_increase: Annotated[
        str | None,
        typer.Option(help="Search for the mask that leaves least for at most this; default: 1%."),
    ] = None,
    max_kl: Annotated[
        float | None, typer.Option(help="And at most this divergence from the model as it is, nats a token.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Of a search: each attributes anew; default: 1.", min=1)] = None,
    refine: Annotated[
        bool | None, typer.Option("--refine/--no-refine", help="Of a search: train the gates of the best; default: do.")
    ] = None,
    validation: Annotated[
        float | None, typer.Option(help="Of a search: fraction of the rest to choose by; default: 0.25.")
    ] = None,
    accept_cost: Annotated[
        str, typer.Option(help="Write no mask whose perplexity rises by more than this on what was held out.")
    ] = "5%",
    accept_worse: Annotated[
        bool, typer.Option("--accept-worse", help="Write the mask even so, or where the behaviour did not fall.")
    ] = False,
    rank: Annotated[
        int | None, typer.Option(help="For weights: in at most so many rows and columns of a matrix.", min=1)
    ] = None,
    scope: Annotated[Scope, typer.Option(help="Which components compete for the budget.")] = "global",
    contrast: Annotated[
        Contrast | None, typer.Option(help="What is cut: most gain for its cost, smallest general - behaviour, …")
    ] = None,
    modules: Annotated[str | None, typer.Option(help="For weights: matrices, by last name, comma-separated.")] = None,
    layers: Annotated[str | None, typer.Option(help="Decoder layers to cut in, as 0,3-7; default: all.")] = None,
    seed: Annotated[
        OutputSeed | None, typer.Option(help="Output whose relevance is propagated; next: where the model would go on.")
    ] = None,
    sign: Annotated[
        Sign | None,
        typer.Option(help="Of relevance; default: lower against the cost, else absolute, for weights signed."),
    ] = None,
    baseline: Annotated[
        Baseline | None,
        typer.Option(help="What activations are held against; spared: a good response to the same prompt."),
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

    Searches for the mask that leaves least of the behaviour for at most --max-perplexity-increase (1%): several
    rankings propose how far which components are dampened, unless --criterion, --contrast, --seed, --sign or
    --baseline names one, the gates of the best are refined, and ablation on a validation split chooses. With --count,
    --fraction, --pattern or the two tops so many are cut, by one ranking. A mask that does not lower the behaviour on
    what was held out, or costs more than --accept-cost, is not written: the exit code is 3.
    """
    from commands.correct_run import CorrectionRequest, run_correction
    from correction.correct import Splits
    from correction.data.behaviour_set import parse_detector
    from correction.options import AttributionOptions, GenerationOptions
    from correction.selection.cut import Cut
    from masks.meta import check_name

    check_name(name)
    check_writable_file(output, "-o")
    check_fraction(held_out, "--held-out")
    check_folders({"--resume": resume, "--scores-in": scores_in})
    granularities = cast("list[Granularity]", granularity or ["neuron"])
    cut = Cut(count, fraction, pattern, scope, top_behaviour, top_general)
    is_search = cut == Cut(scope=cut.scope)
    if is_search:
        check_search(filter, scope)
    else:
        search_options = {"--max-perplexity-increase": max_perplexity_increase, "--max-kl": max_kl, "--rounds": rounds}
        search_options |= {"--validation": validation, "--refine": refine}
        search_options |= {"several --granularity": True if len(granularities) > 1 else None}
        check_count(cut, search_options)
    check_filter(filter, shows, threshold, baseline)
    check_weight_options(granularities, pattern, rank)
    settings = {
        "modules": tuple(modules.split(",")) if modules else None,
        "layers": parse_layers(layers) if layers else None,
        "random_seed": random_seed,
        "response_tokens": max_new_tokens,
        "seed": seed,
        "sign": sign,
        "baseline": baseline,
    }
    given_settings = {key: value for key, value in settings.items() if value is not None}
    if cut.by_sets and contrast is not None:
        raise typer.BadParameter("a set difference takes the place of the contrast: leave --contrast out")
    if is_search and not (criterion or contrast or seed or sign or baseline):
        rankings = default_rankings(granularities, given_settings)
    else:
        rankings = named_rankings(granularities, criterion, contrast, cut.by_sets, given_settings)
    for ranking in rankings:
        check_used(ranking, seed, sign, random_seed)
    request = CorrectionRequest(
        name=name,
        output=output,
        cut=None if is_search else cut,
        increase=percentage(max_perplexity_increase or "1%", "--max-perplexity-increase"),
        kl=max_kl,
        rounds=rounds or 1,
        refine=refine is not False,
        rankings=tuple(replace(ranking, rank=rank) for ranking in rankings),
        splits=Splits(held_out, 0.25 if validation is None else validation, split_seed),
        accept_cost=percentage(accept_cost, "--accept-cost"),
        accept_worse=accept_worse,
        generation_options=GenerationOptions(raw, max_new_tokens, samples, temperature, 0, tokens),
        attribution_options=AttributionOptions(
            raw=raw,
            max_length=max_length,
            tokens=tokens,
            checkpointing=checkpointing,
            scores_in=scores_in,
            resume=resume,
        ),
        scorer=scorer,
        shard=shard,
        as_json=as_json,
    )
    detector = parse_detector(shows, scorer=scorer, threshold=threshold) if filter else None
    run_correction(request, model, dtype, behaviour, general, detector)
