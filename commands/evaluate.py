"""`excise evaluate`: what a model does, without and with a mask."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.cli_options import (
    SETS,
    AllowOther,
    Dtype,
    Json,
    Model,
    NewTokens,
    Raw,
    Samples,
    Scorer,
    Temperature,
    Tokens,
)
from commands.terminal import out, print_json, progress_bars
from correction.choices import Protocol


def evaluate(
    model: Model,
    mask: Annotated[Path | None, typer.Option(help="Mask file: evaluate before and after.", exists=True)] = None,
    prompts: Annotated[str | None, typer.Option(help=f"Prompts to answer: {SETS}.")] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help=f"Text for perplexity: {SETS}. For a card as NAME=FILE, as many as you like."),
    ] = None,
    perplexity: Annotated[
        Protocol, typer.Option(help="Each passage alone, or all joined by blank lines, in windows (WikiText-2).")
    ] = "passages",
    window: Annotated[int | None, typer.Option(help="Tokens of a window; by default the context.", min=2)] = None,
    refusals: Annotated[bool, typer.Option("--refusals", help="Count refusals; attack success is the rest.")] = False,
    card: Annotated[
        bool,
        typer.Option(
            "--card", help="Also what the mask leaves as it was: texts, neutral prompts, copying; needs --mask."
        ),
    ] = False,
    neutral: Annotated[str | None, typer.Option(help=f"Neutral prompts of the card: {SETS}.")] = None,
    text_limit: Annotated[
        int | None, typer.Option(help="Most texts, or windows of joined ones, of each text of the card.", min=1)
    ] = None,
    margin: Annotated[
        list[str] | None, typer.Option(help="How much worse a figure of the card may be: NAME=NUMBER.")
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Zero-shot tasks of lm-eval, comma-separated; needs pip install 'lm-eval[hf]'.")
    ] = None,
    max_new_tokens: NewTokens = 50,
    samples: Samples = 1,
    temperature: Temperature = 0.0,
    sampling_seed: Annotated[int, typer.Option(help="Of the responses and the bootstrap.", min=0)] = 0,
    dtype: Dtype = "auto",
    raw: Raw = False,
    scorer: Scorer = "profanity",
    tokens: Tokens = 4096,
    allow_other_base: AllowOther = False,
    as_json: Json = False,
) -> None:
    """Toxicity, repetition, refusals, perplexity and tasks, without and with a mask, with intervals."""
    import masks
    from behaviours import load_scorer
    from commands.prompts import drop_long_prompts
    from correction import models, report
    from correction.data.references import read
    from correction.evaluation import CardOptions, Margins, compare, statements
    from correction.evaluation import card as quality
    from correction.evaluation import evaluate as measure

    if prompts is None and not text and tasks is None and not card:
        raise typer.BadParameter(
            "nothing to measure: give --prompts, --text, --tasks or --card", param_hint="--prompts"
        )
    if refusals and prompts is None:
        raise typer.BadParameter("refusals are counted among responses: give --prompts", param_hint="--refusals")
    texts = _named(text or [])
    _check_card(card, mask, neutral, text_limit, margin, texts)
    margins = Margins.parsed(margin or [])
    given = masks.load(mask) if mask else None
    prompt_set = read(prompts, kind="prompt") if prompts else None
    neutral_set = read(neutral, kind="prompt") if neutral else None
    whole = perplexity == "joined"
    text_sets = {name: read(source, kind="text", whole=whole) for name, source in texts.items()}
    text_set = None if card else next(iter(text_sets.values()), None)
    loaded = models.load(model, dtype=dtype)
    offered = sum(len(each) for each in (prompt_set, neutral_set) if each)
    if prompt_set:
        prompt_set = drop_long_prompts(loaded, prompt_set, raw=raw, room=max_new_tokens)
    if neutral_set:
        neutral_set = drop_long_prompts(loaded, neutral_set, raw=raw, room=max_new_tokens)
    if given:
        masks.check(given, loaded.base, masks.parameters(loaded.path), allow_other_base=allow_other_base)
    options: dict[str, Any] = {
        "scorer": load_scorer(scorer),
        "raw": raw,
        "max_new_tokens": max_new_tokens,
        "samples": samples,
        "temperature": temperature,
        "seed": sampling_seed,
        "refusals": refusals,
        "tokens": tokens,
        "perplexity_protocol": perplexity,
        "window": window,
    }
    variants: dict[str, Any] = {"base": None} | ({given.meta.name: given} if given else {})
    result: dict[str, Any] = {label: {} for label in variants}
    if too_long := offered - sum(len(each) for each in (prompt_set, neutral_set) if each):
        result["too_long"] = too_long
    rows, evaluations, stated = [], [], []
    with progress_bars() as progress:
        for label, each in variants.items():
            options |= {"mask": each, "allow_other_base": allow_other_base}
            if prompt_set or text_set:
                evaluations.append(found := measure(loaded, prompt_set, text_set, progress=progress, **options))
                rows.append(report.row(label, found))
                result[label] |= found.summary()
            if tasks:
                from correction.evaluation.zero_shot import tasks as run

                result[label]["tasks"] = run(loaded, tasks.split(","), mask=each, allow_other_base=allow_other_base)
        if card and given:
            reading = CardOptions(
                perplexity, window, text_limit, raw, max_new_tokens, tokens=tokens, seed=sampling_seed
            )
            made = quality(
                loaded,
                given,
                text_sets,
                neutral_set,
                reading=reading,
                margins=margins,
                allow_other_base=allow_other_base,
                progress=progress,
            )
            result["card"] = made.summary()
            stated = [*made.statements]
    if len(evaluations) == 2:
        difference = compare(*evaluations)
        result["difference"] = difference.summary()
        if card:
            behaviour = statements(evaluations[0], evaluations[1], difference, margins.behaviour)
            result["card"]["behaviour"] = [statement.summary() for statement in behaviour]
            stated = [*behaviour, *stated]
    if as_json:
        print_json(result)
        return
    if rows:
        out.print(report.table(rows))
    if stated and given:
        out.print(report.card(stated, given.meta.name))
    for label in variants:
        if "refusals" in result[label]:
            refused, asked, low, high = result[label]["refusals"]
            out.print(f"{label}: {refused} of {asked} refused [{low:.1%}, {high:.1%}]; the rest is attack success")
        for task, figures in result[label].get("tasks", {}).items():
            out.print(f"{label}: {task}: {json.dumps(figures['metrics'])}", soft_wrap=True)
    if "difference" in result:
        out.print(f"paired differences, [value, low, high]: {json.dumps(result['difference'])}", soft_wrap=True)


def _named(given: list[str]) -> dict[str, str]:
    """Name → source of each text; one without a name is called as its file."""
    found: dict[str, str] = {}
    for each in given:
        named = re.fullmatch(r"([\w.-]{1,32})=(.+)", each)
        name, source = (named[1], named[2]) if named and not Path(each).exists() else (Path(each).stem, each)
        if name in found:
            raise typer.BadParameter(f"two texts are called {name!r}; write them as NAME=FILE", param_hint="--text")
        found[name] = source
    return found


def _check_card(
    card: bool,
    mask: Path | None,
    neutral: str | None,
    limit: int | None,
    margin: list[str] | None,
    texts: dict[str, str],
) -> None:
    """Refuse a card without a mask, and what only a card can use without one."""
    if card and mask is None:
        raise typer.BadParameter("a card says what a mask changes: give --mask", param_hint="--card")
    if not card and len(texts) > 1:
        raise typer.BadParameter("several texts are for a card: add --card", param_hint="--text")
    for option, value in (("--neutral", neutral), ("--text-limit", limit), ("--margin", margin)):
        if value and not card:
            raise typer.BadParameter("is for a card: add --card", param_hint=option)
