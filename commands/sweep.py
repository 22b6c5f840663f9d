"""`excise sweep`: behaviour and perplexity against the number of cut components."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    Temperature,
    Tokens,
    check_writable_folder,
    parse_integers,
)
from commands.terminal import out, print_json, progress_bars
from correction.choices import Granularity, Target

if TYPE_CHECKING:
    from correction.sweep.configurations import SweepConfiguration


def sweep(
    model: Model,
    behaviour: Behaviour,
    general: General,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for sweep.csv, pictures and sweep.html.")],
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help="LABEL=CRITERION[,seed=…,sign=…,contrast=…,scope=…,granularity=…]; repeatable. Default: lrp, random."
        ),
    ] = None,
    granularity: Annotated[Granularity, typer.Option(help="What to cut.")] = "neuron",
    modules: Annotated[str | None, typer.Option(help="For weights: matrices, by last name, comma-separated.")] = None,
    counts: Annotated[str, typer.Option(help="How many to cut, ascending, comma-separated.")] = "10,20,50,100",
    seeds: Annotated[str, typer.Option(help="Each attributes another part of the sets.")] = "0,1,2",
    fraction_of_set: Annotated[float, typer.Option(help="Of the reference sets that each seed draws.")] = 0.8,
    prompts: Annotated[str | None, typer.Option(help="Prompts to measure on, instead of a held-out part.")] = None,
    text: Annotated[str | None, typer.Option(help="Text to measure on, instead of a held-out part.")] = None,
    held_out: Annotated[float, typer.Option(help="Fraction of each set kept for measuring.")] = 0.25,
    split_seed: Annotated[int, typer.Option(help="Of that split.", min=0)] = 0,
    target: Annotated[Target, typer.Option(help="What the best point lowers.")] = "toxicity",
    perplexity_budget: Annotated[float, typer.Option(help="What the best point may cost, as 0.01.")] = 0.1,
    max_length: Annotated[int | None, typer.Option(help="Longest sample, tokens; texts are cut there.", min=2)] = None,
    max_new_tokens: NewTokens = 50,
    samples: Samples = 1,
    temperature: Temperature = 0.0,
    dtype: Dtype = "auto",
    raw: Raw = False,
    scorer: Scorer = "profanity",
    tokens: Tokens = 4096,
    as_json: Json = False,
) -> None:
    """Cut more and more by several criteria, and draw what it does: CSV, pictures and one HTML page."""
    from behaviours import load_scorer
    from commands.prompts import drop_long_prompts
    from correction import models
    from correction.data.references import read
    from correction.sweep import sweep as sweeps

    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file; name a folder", param_hint="-o")
    check_writable_folder(output if output.exists() else output.parent, "-o")
    matrices = tuple(modules.split(",")) if modules else None
    arms = [_arm(spec, granularity, matrices) for spec in arm or ("lrp=lrp", "random=random")]
    sets = read(behaviour, kind="prompt"), read(general, kind="text")
    measured = [read(prompts, kind="prompt") if prompts else None, read(text, kind="text") if text else None]
    for place, given in enumerate(measured):
        if given is None:
            kept, measured[place] = sets[place].split(held_out, split_seed)
            sets = (kept, sets[1]) if place == 0 else (sets[0], kept)
    loaded = models.load(model, dtype=dtype)
    sets = drop_long_prompts(loaded, sets[0], raw=raw, room=max_new_tokens), sets[1]
    if measured[0] is not None:
        measured[0] = drop_long_prompts(loaded, measured[0], raw=raw, room=max_new_tokens)
    with progress_bars() as progress:
        result = sweeps.sweep(
            loaded,
            *sets,
            *(each for each in measured if each is not None),
            arms=arms,
            counts=parse_integers(counts, "--counts"),
            seeds=parse_integers(seeds, "--seeds"),
            fraction_of_set=fraction_of_set,
            target=target,
            perplexity_budget=perplexity_budget,
            scorer=load_scorer(scorer),
            raw=raw,
            max_length=max_length,
            max_new_tokens=max_new_tokens,
            samples=samples,
            temperature=temperature,
            tokens=tokens,
            progress=progress,
        )
    sweeps.report(result, output)
    best = result.best.point
    if as_json:
        print_json({"folder": str(output), "points": [vars(point) for point in (result.base, *result.points)]})
        return
    out.print(f"{output}/sweep.html: {len(result.points)} points of {len(arms)} arms")
    aimed = "toxic_rate" if target == "toxicity" else "repetitive_rate"
    out.print(
        f"best: {best.arm}, {best.count} {best.granularity}s: {getattr(result.base, aimed):.1%} to "
        f"{getattr(best, aimed):.1%} {target}, perplexity {best.perplexity_increase:+.2%}"
    )


def _arm(spec: str, granularity: Granularity, modules: tuple[str, ...] | None) -> "SweepConfiguration":
    from correction.selection.ranking import Ranking
    from correction.sweep.configurations import SweepConfiguration

    label, _, rest = spec.partition("=")
    criterion, *options = rest.split(",")
    given = dict(option.partition("=")[::2] for option in options)
    unknown = given.keys() - {"seed", "sign", "contrast", "scope", "granularity"}
    if not label or not criterion or unknown or not all(given.values()):
        raise typer.BadParameter(
            f"{spec!r} is no arm; write LABEL=CRITERION, and after it ,seed=… ,sign=… ,contrast=… ,scope=… or "
            ",granularity=…",
            param_hint="--arm",
        )
    kind = given.pop("granularity", granularity)
    chosen: dict[str, Any] = {key: given.pop(key) for key in ("seed", "sign") if key in given}
    if kind == "weight" and modules:
        chosen["modules"] = modules
    ranking = Ranking.default(criterion, kind, given.pop("contrast", None), **chosen)  # type: ignore[arg-type]
    return SweepConfiguration(label, criterion, ranking.settings, ranking.contrast, **given)  # type: ignore[arg-type]
