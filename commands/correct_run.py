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
from correction.correct import Splits
from correction.correct import correct as by_count
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
        cut: how much is cut; None for a search within `increase`, relative, of perplexity and `kl`, nats a token.
        accept_cost: increase of perplexity on the held-out text up to which a mask is written. accept_worse: write it
            whatever it does.
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


def run_correction(
    asked: CorrectionRequest, model: str, dtype: str, behaviour: str, general: str, detector: Detector | None
) -> None:
    """Make the mask, and write it if it does what it should.

    Raises:
        typer.Exit: it does not, with code `HARMFUL`; nothing is written.
    """
    prompts, text = read(behaviour, kind="prompt"), read(general, kind="text")
    toxicity = load_scorer(asked.scorer)  # mistakes are told before the model is loaded
    budget = Budget(asked.increase, asked.kl)
    with distributed.process_group(), progress_bars(shown=distributed.rank() == 0) as progress:
        if asked.shard and distributed.world_size() == 1:
            raise typer.BadParameter(
                "there is one process, with nobody to share with; start several, as with: "
                "torchrun --nproc-per-node 2 -m excise correct --shard",
                param_hint="--shard",
            )
        loaded = models.load(model, dtype=dtype, device="cpu" if asked.shard else None)
        if asked.shard:
            distributed.shard_model(loaded)
        given = len(prompts)
        prompts = drop_long_prompts(
            loaded, prompts, raw=asked.generation_options.raw, room=asked.generation_options.max_new_tokens
        )
        shared = overlap(prompts, text)
        if len(shared) == len(prompts):
            raise typer.BadParameter("every behaviour prompt is in the general set: the two must differ")
        if shared and distributed.rank() == 0:
            print_warning(f"{len(shared)} behaviour prompts are in the general set too")
        mask, found = _made(asked, budget, toxicity, loaded, prompts, text, detector, progress)
        if too_long := given - len(prompts):
            mask = mask.with_meta(made={**mask.meta.made, "too_long": too_long})
        if distributed.rank() > 0:
            return
    against = harm.derived(mask.meta.measured, asked.accept_cost)
    written = not against or asked.accept_worse
    if written:
        if against:
            mask = mask.with_meta(measured={**mask.meta.measured, "warnings": list(against)})
        masks.save(mask, asked.output)
    if asked.as_json:
        verdict = {"written": written, "warnings": list(against)}
        print_json(
            describe_mask(mask) | verdict | ({"front": [each.described() for each in found.front]} if found else {})
        )
    else:
        if found:
            out.print(pareto_table(found))
        where = asked.output if written else "not written"
        out.print(f"{where}: {cut_count(mask)} cut, digest {mask.digest}", soft_wrap=True)
        out.print(measurements_table(mask))
    for sentence in against:
        print_error(sentence)
    if not written:
        other = "--contrast difference, or leave the count out" if asked.cut else "another budget"
        print_error(
            f"No mask was written. Try {other}, give more prompts or text, or write it even so: --accept-worse."
        )
        raise typer.Exit(HARMFUL)


def _made(
    asked: CorrectionRequest,
    budget: Budget,
    toxicity: ToxicityScorer,
    loaded: LoadedModel,
    prompts: ReferenceSet,
    text: ReferenceSet,
    detector: Detector | None,
    progress: Progress,
) -> tuple[masks.Mask, SearchResult | None]:
    """The mask, and what was tried where it was searched for."""
    if asked.cut is None:
        if detector is None:
            raise typer.BadParameter("a search must know what shows the behaviour: leave --no-filter out")
        corrected = correct_within_budget(
            loaded,
            prompts,
            text,
            detector,
            name=asked.name,
            budget=budget,
            rankings=asked.rankings,
            rounds=asked.rounds,
            refinement=Refinement() if asked.refine else None,
            splits=asked.splits,
            scorer=toxicity,
            generation_options=asked.generation_options,
            attribution_options=asked.attribution_options,
            progress=progress,
        )
        if corrected.over and distributed.rank() == 0:
            print_warning(f"on the held-out text the increase may be over {asked.increase:.2%}: see below")
        return corrected.mask, corrected.found
    asked.cut.check(loaded, asked.rankings[0])
    made, held_out, negatives = {}, None, None
    if detector is not None:
        prompts, held_out = prompts.split(asked.splits.held_out, asked.splits.seed)
        answered = build(loaded, prompts, detector, progress=progress, **asked.generation_options.as_arguments())
        prompts, negatives, made = answered.selected, answered.negatives, {"filter": answered.described()}
        if distributed.rank() == 0:
            outcome_lines(answered)
    mask = by_count(
        loaded,
        prompts,
        text,
        name=asked.name,
        cut=asked.cut,
        ranking=asked.rankings[0],
        splits=asked.splits,
        held_out_behaviour=held_out,
        detector=detector,
        scorer=toxicity,
        generation_options=asked.generation_options,
        attribution_options=asked.attribution_options.replace(shows=detector, negatives=negatives),
        made=made,
        progress=progress,
    )
    return mask, None
