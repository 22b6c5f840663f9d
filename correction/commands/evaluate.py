"""`excise evaluate`: what a model does, without and with a mask."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from correction.commands.options import (
    SETS,
    AllowOther,
    Dtype,
    Json,
    Model,
    NewTokens,
    Protocol,
    Raw,
    Samples,
    Scorer,
    Temperature,
    Tokens,
)
from correction.terminal import out, print_json, progress_bars


def evaluate(
    model: Model,
    mask: Annotated[Path | None, typer.Option(help="Mask file: evaluate before and after.", exists=True)] = None,
    prompts: Annotated[str | None, typer.Option(help=f"Prompts to answer: {SETS}.")] = None,
    text: Annotated[str | None, typer.Option(help=f"Text for perplexity: {SETS}.")] = None,
    perplexity: Annotated[
        Protocol, typer.Option(help="Each passage alone, or all joined by blank lines, in windows (WikiText-2).")
    ] = Protocol.passages,
    window: Annotated[int | None, typer.Option(help="Tokens of a window; by default the context.", min=2)] = None,
    refusals: Annotated[bool, typer.Option("--refusals", help="Count refusals; attack success is the rest.")] = False,
    tasks: Annotated[
        str | None, typer.Option(help="Zero-shot tasks of lm-eval, comma-separated; it is an extra, see the README.")
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
    from correction import models, report
    from correction.evaluation import compare
    from correction.evaluation import evaluate as measure
    from correction.references import read

    if prompts is None and text is None and tasks is None:
        raise typer.BadParameter("nothing to measure: give --prompts, --text or --tasks", param_hint="--prompts")
    if refusals and prompts is None:
        raise typer.BadParameter("refusals are counted among responses: give --prompts", param_hint="--refusals")
    given = masks.load(mask) if mask else None
    prompt_set = read(prompts, kind="prompt") if prompts else None
    text_set = read(text, kind="text", whole=perplexity is Protocol.joined) if text else None
    loaded = models.load(model, dtype=dtype)
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
        "perplexity_protocol": perplexity.value,
        "window": window,
    }
    variants: dict[str, Any] = {"base": None} | ({given.meta.name: given} if given else {})
    result: dict[str, Any] = {label: {} for label in variants}
    rows, evaluations = [], []
    with progress_bars() as progress:
        for label, each in variants.items():
            options |= {"mask": each, "allow_other_base": allow_other_base}
            if prompt_set or text_set:
                evaluations.append(found := measure(loaded, prompt_set, text_set, progress=progress, **options))
                rows.append(report.row(label, found))
                result[label] |= found.summary()
            if tasks:
                from correction.evaluation.tasks import tasks as run

                result[label]["tasks"] = run(loaded, tasks.split(","), mask=each, allow_other_base=allow_other_base)
    if len(evaluations) == 2:
        result["difference"] = compare(*evaluations).summary()
    if as_json:
        print_json(result)
        return
    if rows:
        out.print(report.table(rows))
    for label in variants:
        if "refusals" in result[label]:
            refused, asked, low, high = result[label]["refusals"]
            out.print(f"{label}: {refused} of {asked} refused [{low:.1%}, {high:.1%}]; the rest is attack success")
        for task, figures in result[label].get("tasks", {}).items():
            out.print(f"{label}: {task}: {json.dumps(figures['metrics'])}", soft_wrap=True)
    if "difference" in result:
        out.print(f"paired differences, [value, low, high]: {json.dumps(result['difference'])}", soft_wrap=True)
