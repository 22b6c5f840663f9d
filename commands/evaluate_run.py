"""What `excise evaluate` does, once its options are understood."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import masks
from behaviours import ToxicityScorer, load_scorer
from commands.prompts import drop_long_prompts
from commands.terminal import out, print_json, progress_bars
from correction import models, report
from correction.data.references import ReferenceSet, read
from correction.evaluation import (
    Card,
    CardOptions,
    Evaluation,
    Margins,
    Statement,
    card,
    compare,
    evaluate,
    statements,
)
from correction.evaluation.zero_shot import tasks as run_tasks
from correction.models import LoadedModel
from correction.options import GenerationOptions
from correction.progress import Progress


@dataclass(frozen=True)
class EvaluationRequest:
    """Everything that `excise evaluate` was asked for.

    Attributes:
        mask: Mask file; None to measure the model as it is alone.
        prompts: Source of the prompts to answer, if any.
        texts: Name to source of the texts for perplexity; more than one for a card alone.
        refusals: Count refusals among the responses.
        card: Measure what the mask leaves as it was.
        neutral: Source of the neutral prompts of the card, if any.
        text_limit: Most texts, or windows, of each text of the card.
        margins: `NAME=NUMBER` of each figure of the card that may be worse.
        tasks: Names of zero-shot tasks.
        perplexity_protocol: See `correction.evaluation.evaluate`.
        window: Tokens of a window; None for the context.
        scorer: Of toxicity.
    """

    model: str
    dtype: str
    mask: Path | None
    prompts: str | None
    texts: Mapping[str, str]
    refusals: bool
    card: bool
    neutral: str | None
    text_limit: int | None
    margins: tuple[str, ...]
    tasks: tuple[str, ...]
    perplexity_protocol: Literal["passages", "joined"]
    window: int | None
    generation_options: GenerationOptions
    scorer: str
    allow_other_base: bool
    as_json: bool


@dataclass(frozen=True)
class EvaluationInputs:
    """What an evaluation works on: a loaded model, a mask and reference sets.

    Attributes:
        texts: Name to text, of a card.
        text: Text for the perplexity outside a card.
        too_long: Prompts that were left out because they do not fit the context.
    """

    loaded: LoadedModel
    mask: masks.Mask | None
    prompts: ReferenceSet | None
    neutral: ReferenceSet | None
    texts: Mapping[str, ReferenceSet]
    text: ReferenceSet | None
    too_long: int
    margins: Margins
    scorer: ToxicityScorer


def run_evaluation(request: EvaluationRequest) -> None:
    """Measure the model without and with the mask, compare the two, and show both."""
    inputs = _read_inputs(request)
    variants: dict[str, masks.Mask | None] = {"base": None}
    if inputs.mask:
        variants[inputs.mask.meta.name] = inputs.mask
    document: dict[str, Any] = {label: {} for label in variants}
    if inputs.too_long:
        document["too_long"] = inputs.too_long
    evaluations: dict[str, Evaluation] = {}
    with progress_bars() as progress:
        for label, mask in variants.items():
            if inputs.prompts or inputs.text:
                evaluations[label] = _evaluate_variant(request, inputs, mask, progress)
                document[label] |= evaluations[label].summary()
            if request.tasks:
                document[label]["tasks"] = run_tasks(
                    inputs.loaded, request.tasks, mask=mask, allow_other_base=request.allow_other_base
                )
        quality = _make_card(request, inputs, inputs.mask, progress) if request.card and inputs.mask else None
    card_statements = _compare_and_state(list(evaluations.values()), quality, inputs.margins, document)
    if request.as_json:
        print_json(document)
    else:
        _show(document, evaluations, card_statements, inputs.mask)


def _compare_and_state(
    evaluations: list[Evaluation], quality: Card | None, margins: Margins, document: dict[str, Any]
) -> list[Statement]:
    """The statements of the card, about the behaviour first; the card and the differences go into the document."""
    card_statements: list[Statement] = []
    if quality:
        document["card"] = quality.summary()
        card_statements += quality.statements
    if len(evaluations) == 2:
        before, after = evaluations
        difference = compare(before, after)
        document["difference"] = difference.summary()
        if quality:
            about_behaviour = statements(before, after, difference, margins.behaviour)
            document["card"]["behaviour"] = [statement.summary() for statement in about_behaviour]
            card_statements = about_behaviour + card_statements
    return card_statements


def _read_inputs(request: EvaluationRequest) -> EvaluationInputs:
    """Read the sets, load the model, and leave out the prompts that do not fit its context."""
    margins = Margins.parsed(request.margins)
    mask = masks.load(request.mask) if request.mask else None
    prompts = read(request.prompts, kind="prompt") if request.prompts else None
    neutral = read(request.neutral, kind="prompt") if request.neutral else None
    joined = request.perplexity_protocol == "joined"
    texts = {name: read(source, kind="text", whole=joined) for name, source in request.texts.items()}
    loaded = models.load(request.model, dtype=request.dtype)
    room, raw = request.generation_options.max_new_tokens, request.generation_options.raw
    fitting_prompts = drop_long_prompts(loaded, prompts, raw=raw, room=room) if prompts else None
    fitting_neutral = drop_long_prompts(loaded, neutral, raw=raw, room=room) if neutral else None
    if mask:
        masks.check(mask, loaded.base, masks.parameters(loaded.path), allow_other_base=request.allow_other_base)
    return EvaluationInputs(
        loaded=loaded,
        mask=mask,
        prompts=fitting_prompts,
        neutral=fitting_neutral,
        texts=texts,
        text=None if request.card else next(iter(texts.values()), None),
        too_long=_size(prompts) + _size(neutral) - _size(fitting_prompts) - _size(fitting_neutral),
        margins=margins,
        scorer=load_scorer(request.scorer),
    )


def _size(references: ReferenceSet | None) -> int:
    return len(references) if references else 0


def _evaluate_variant(
    request: EvaluationRequest, inputs: EvaluationInputs, mask: masks.Mask | None, progress: Progress
) -> Evaluation:
    return evaluate(
        inputs.loaded,
        inputs.prompts,
        inputs.text,
        mask=mask,
        scorer=inputs.scorer,
        refusals=request.refusals,
        perplexity_protocol=request.perplexity_protocol,
        window=request.window,
        allow_other_base=request.allow_other_base,
        progress=progress,
        **request.generation_options.as_arguments(),
    )


def _make_card(request: EvaluationRequest, inputs: EvaluationInputs, mask: masks.Mask, progress: Progress) -> Card:
    options = request.generation_options
    reading = CardOptions(
        request.perplexity_protocol,
        request.window,
        request.text_limit,
        options.raw,
        options.max_new_tokens,
        tokens=options.tokens,
        seed=options.seed,
    )
    return card(
        inputs.loaded,
        mask,
        inputs.texts,
        inputs.neutral,
        reading=reading,
        margins=inputs.margins,
        allow_other_base=request.allow_other_base,
        progress=progress,
    )


def _show(
    document: Mapping[str, Any],
    evaluations: Mapping[str, Evaluation],
    card_statements: list[Statement],
    mask: masks.Mask | None,
) -> None:
    """Tables of rates and of the card, then refusals, tasks and differences as lines."""
    if evaluations:
        out.print(report.table([report.row(label, evaluation) for label, evaluation in evaluations.items()]))
    if card_statements and mask:
        out.print(report.card(card_statements, mask.meta.name))
    for label in ("base", mask.meta.name) if mask else ("base",):
        if "refusals" in document[label]:
            refused, asked, low, high = document[label]["refusals"]
            out.print(f"{label}: {refused} of {asked} refused [{low:.1%}, {high:.1%}]; the rest is attack success")
        for task, figures in document[label].get("tasks", {}).items():
            out.print(f"{label}: {task}: {json.dumps(figures['metrics'])}", soft_wrap=True)
    if "difference" in document:
        out.print(f"paired differences, [value, low, high]: {json.dumps(document['difference'])}", soft_wrap=True)
