"""`excise evaluate`: what a model does, without and with a mask."""

import re
from pathlib import Path
from typing import Annotated

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
        str | None, typer.Option(help="Zero-shot tasks of lm-eval, comma-separated; it is an extra, see the manual.")
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
    from commands.evaluate_run import EvaluationRequest, run_evaluation
    from correction.options import GenerationOptions

    _check_anything_to_measure(prompts, text, tasks, card, refusals)
    texts = _named(text or [])
    _check_card(card, mask, neutral, text_limit, margin, texts)
    run_evaluation(
        EvaluationRequest(
            model=model,
            dtype=dtype,
            mask=mask,
            prompts=prompts,
            texts=texts,
            refusals=refusals,
            card=card,
            neutral=neutral,
            text_limit=text_limit,
            margins=tuple(margin or ()),
            tasks=tuple(tasks.split(",")) if tasks else (),
            perplexity_protocol=perplexity,
            window=window,
            generation_options=GenerationOptions(raw, max_new_tokens, samples, temperature, sampling_seed, tokens),
            scorer=scorer,
            allow_other_base=allow_other_base,
            as_json=as_json,
        )
    )


def _check_anything_to_measure(
    prompts: str | None, text: list[str] | None, tasks: str | None, card: bool, refusals: bool
) -> None:
    """Refuse to measure nothing, and refusals without prompts."""
    if prompts is None and not text and tasks is None and not card:
        raise typer.BadParameter(
            "nothing to measure: give --prompts, --text, --tasks or --card", param_hint="--prompts"
        )
    if refusals and prompts is None:
        raise typer.BadParameter("refusals are counted among responses: give --prompts", param_hint="--refusals")


def _named(given: list[str]) -> dict[str, str]:
    """Name → source of each text; one without a name is called as its file."""
    sources: dict[str, str] = {}
    for spec in given:
        named = re.fullmatch(r"([\w.-]{1,32})=(.+)", spec)
        name, source = (named[1], named[2]) if named and not Path(spec).exists() else (Path(spec).stem, spec)
        if name in sources:
            raise typer.BadParameter(f"two texts are called {name!r}; write them as NAME=FILE", param_hint="--text")
        sources[name] = source
    return sources


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
