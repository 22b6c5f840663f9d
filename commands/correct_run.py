"""What `excise correct` does, once its options are understood."""

from dataclasses import dataclass
from pathlib import Path

import typer

import masks
from behaviours import ToxicityScorer, load_scorer
from commands.prompts import drop_long_prompts
from commands.references import outcome_lines
from commands.terminal import (
    cut_count,
    describe_mask,
    measurements_table,
    out,
    pareto_table,
    print_error,
    print_json,
    print_warning,
    progress_bars,
)
from correction import distributed, models
from correction.correct import Splits, correct
from correction.data.behaviour_set import build
from correction.data.detectors import Detector
from correction.data.references import ReferenceSet, overlap, read
from correction.models import LoadedModel
from correction.options import AttributionOptions, GenerationOptions
from correction.progress import Progress
from correction.search.perplexity_budget import correct_within_budget
from correction.search.refinement import Refinement
from correction.search.trials import SearchResult
from correction.search.validation import Budget
from correction.selection.cut import Cut
from correction.selection.ranking import Ranking
from masks import harm

HARMFUL = 3
"""Exit code where no mask was written because it does harm, or no good."""


@dataclass(frozen=True)
class CorrectionRequest:
    """Everything that `excise correct` was asked for, but for the model and the reference sets.

    Attributes:
        cut: How much is cut; None for a search within `increase` and `kl`.
        increase: Largest relative increase of perplexity that a search may cost.
        kl: Largest KL divergence that a search may cost, nats a token; None for no limit.
        accept_cost: Largest relative increase of perplexity on the held-out text with which a mask is written.
        accept_worse: Write the mask even if it costs more, or does not lower the behaviour.
    """

    name: str
    output: Path
    cut: Cut | None
    increase: float
    kl: float | None
    rounds: int
    refine: bool
    rankings: tuple[Ranking, ...]
    splits: Splits
    accept_cost: float
    accept_worse: bool
    generation_options: GenerationOptions
    attribution_options: AttributionOptions
    scorer: str
    shard: bool
    as_json: bool


@dataclass(frozen=True)
class CorrectionInputs:
    """What a correction works on: a loaded model, its reference sets and what scores responses.

    Attributes:
        prompts: Prompts that bring the behaviour out.
        text: Text that must stay as it is.
        detector: What shows the behaviour; None where prompts are taken as they are.
        scorer: Of the toxicity that is measured.
    """

    loaded: LoadedModel
    prompts: ReferenceSet
    text: ReferenceSet
    detector: Detector | None
    scorer: ToxicityScorer
    progress: Progress


def run_correction(
    request: CorrectionRequest, model: str, dtype: str, behaviour: str, general: str, detector: Detector | None
) -> None:
    """Make a mask, show what it measured, and write it unless it does harm.

    Args:
        request: What was asked for.
        model: Model folder or hub id.
        dtype: Type to compute in.
        behaviour: Source of the prompts that bring the behaviour out.
        general: Source of the text that must stay as it is.
        detector: What shows the behaviour; None where prompts are taken as they are.

    Raises:
        typer.Exit: The mask was not written, with code `HARMFUL`.
    """
    candidates, text = read(behaviour, kind="prompt"), read(general, kind="text")
    scorer = load_scorer(request.scorer)  # before the model is loaded: a mistake shows at once
    budget = Budget(request.increase, request.kl)
    with distributed.process_group(), progress_bars(shown=distributed.rank() == 0) as progress:
        loaded = _load_model(model, dtype, request.shard)
        options = request.generation_options
        prompts = drop_long_prompts(loaded, candidates, raw=options.raw, room=options.max_new_tokens)
        _check_overlap(prompts, text)
        inputs = CorrectionInputs(loaded, prompts, text, detector, scorer, progress)
        if request.cut is None:
            mask, search_result = _search_mask(request, budget, inputs)
        else:
            mask, search_result = _cut_mask(request, request.cut, inputs), None
        if too_long := len(candidates) - len(prompts):
            mask = mask.with_meta(made={**mask.meta.made, "too_long": too_long})
        if distributed.rank() > 0:
            return
    _write_and_show(request, mask, search_result)


def _load_model(model: str, dtype: str, shard: bool) -> LoadedModel:
    if not shard:
        return models.load(model, dtype=dtype)
    if distributed.world_size() == 1:
        raise typer.BadParameter(
            "there is one process, with nobody to share with; start several, as with: "
            "torchrun --nproc-per-node 2 -m excise correct --shard",
            param_hint="--shard",
        )
    loaded = models.load(model, dtype=dtype, device="cpu")
    distributed.shard_model(loaded)
    return loaded


def _check_overlap(prompts: ReferenceSet, text: ReferenceSet) -> None:
    """Warn of prompts that are in the general set too, and refuse a set of nothing else."""
    shared = overlap(prompts, text)
    if len(shared) == len(prompts):
        raise typer.BadParameter("every behaviour prompt is in the general set: the two must differ")
    if shared and distributed.rank() == 0:
        print_warning(f"{len(shared)} behaviour prompts are in the general set too")


def _search_mask(
    request: CorrectionRequest, budget: Budget, inputs: CorrectionInputs
) -> tuple[masks.Mask, SearchResult]:
    """The mask that leaves least of the behaviour within a budget, and everything that the search tried."""
    if inputs.detector is None:
        raise typer.BadParameter("a search must know what shows the behaviour: leave --no-filter out")
    corrected = correct_within_budget(
        inputs.loaded,
        inputs.prompts,
        inputs.text,
        inputs.detector,
        name=request.name,
        budget=budget,
        rankings=request.rankings,
        rounds=request.rounds,
        refinement=Refinement() if request.refine else None,
        splits=request.splits,
        scorer=inputs.scorer,
        generation_options=request.generation_options,
        attribution_options=request.attribution_options,
        progress=inputs.progress,
    )
    if corrected.over and distributed.rank() == 0:
        print_warning(f"on the held-out text the increase may be over {request.increase:.2%}: see below")
    return corrected.mask, corrected.search_result


def _cut_mask(request: CorrectionRequest, cut: Cut, inputs: CorrectionInputs) -> masks.Mask:
    """The mask that cuts as much as was asked for, by the first ranking."""
    ranking, splits = request.rankings[0], request.splits
    cut.check(inputs.loaded, ranking)
    prompts, held_out, negatives, made = inputs.prompts, None, None, {}
    if inputs.detector is not None:
        prompts, held_out = prompts.split(splits.held_out, splits.seed)
        options = request.generation_options.as_arguments()
        answered = build(inputs.loaded, prompts, inputs.detector, progress=inputs.progress, **options)
        prompts, negatives, made = answered.selected, answered.negatives, {"filter": answered.described()}
        if distributed.rank() == 0:
            outcome_lines(answered)
    return correct(
        inputs.loaded,
        prompts,
        inputs.text,
        name=request.name,
        cut=cut,
        ranking=ranking,
        splits=splits,
        held_out_behaviour=held_out,
        detector=inputs.detector,
        scorer=inputs.scorer,
        generation_options=request.generation_options,
        attribution_options=request.attribution_options.replace(shows=inputs.detector, negatives=negatives),
        made=made,
        progress=inputs.progress,
    )


def _write_and_show(request: CorrectionRequest, mask: masks.Mask, search_result: SearchResult | None) -> None:
    """Write the mask unless it does harm, and show what it measured.

    Raises:
        typer.Exit: The mask was not written, with code `HARMFUL`.
    """
    warnings = harm.derived(mask.meta.measured, request.accept_cost)
    written = not warnings or request.accept_worse
    if written and warnings:
        mask = mask.with_meta(measured={**mask.meta.measured, "warnings": list(warnings)})
    if written:
        masks.save(mask, request.output)
    if request.as_json:
        front = {"front": [trial.described() for trial in search_result.front]} if search_result else {}
        print_json(describe_mask(mask) | {"written": written, "warnings": list(warnings)} | front)
    else:
        if search_result:
            out.print(pareto_table(search_result))
        where = request.output if written else "not written"
        out.print(f"{where}: {cut_count(mask)} cut, digest {mask.digest}", soft_wrap=True)
        out.print(measurements_table(mask))
    for warning in warnings:
        print_error(warning)
    if not written:
        other = "--contrast difference, or leave the count out" if request.cut else "another budget"
        print_error(
            f"No mask was written. Try {other}, give more prompts or text, or write it even so: --accept-worse."
        )
        raise typer.Exit(HARMFUL)
