"""What `excise correct` does, once its options are understood."""

from dataclasses import dataclass
from pathlib import Path

import typer

import masks
from behaviours import ToxicityScorer, load_scorer
from correction import distributed, models
from correction.behaviour_set import build
from correction.commands.prompts import short_enough
from correction.commands.references import told
from correction.correct import Splits
from correction.correct import correct as by_count
from correction.models import LoadedModel
from correction.options import Asking, Attributing
from correction.progress import Progress
from correction.recipe import Cut, Ranking
from correction.references import ReferenceSet, overlap, read
from correction.refinement import Refinement
from correction.symptoms import Symptom
from correction.terminal import alarm, count_of, described, front, measured, out, print_json, progress_bars, warn
from correction.trials import Found
from correction.validation import Budget
from correction.within import correct_within
from masks import harm

HARMFUL = 3
"""Exit code where no mask was written because it does harm, or no good."""


@dataclass(frozen=True)
class Correction:
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
    asking: Asking
    attributing: Attributing
    scorer: str
    shard: bool
    as_json: bool


def run(asked: Correction, model: str, dtype: str, behaviour: str, general: str, test: Symptom | None) -> None:
    """Make the mask, and write it if it does what it should.

    Raises:
        typer.Exit: it does not, with code `HARMFUL`; nothing is written.
    """
    prompts, text = read(behaviour, kind="prompt"), read(general, kind="text")
    toxicity = load_scorer(asked.scorer)  # mistakes are told before the model is loaded
    budget = Budget(asked.increase, asked.kl)
    with distributed.joined(), progress_bars(shown=distributed.rank() == 0) as progress:
        if asked.shard and distributed.processes() == 1:
            raise typer.BadParameter(
                "there is one process, with nobody to share with; start several, as with: "
                "torchrun --nproc-per-node 2 -m excise correct --shard",
                param_hint="--shard",
            )
        loaded = models.load(model, dtype=dtype, device="cpu" if asked.shard else None)
        if asked.shard:
            distributed.shard(loaded)
        given = len(prompts)
        prompts = short_enough(loaded, prompts, raw=asked.asking.raw, room=asked.asking.max_new_tokens)
        shared = overlap(prompts, text)
        if len(shared) == len(prompts):
            raise typer.BadParameter("every behaviour prompt is in the general set: the two must differ")
        if shared and distributed.rank() == 0:
            warn(f"{len(shared)} behaviour prompts are in the general set too")
        mask, found = _made(asked, budget, toxicity, loaded, prompts, text, test, progress)
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
        print_json(described(mask) | verdict | ({"front": [each.described() for each in found.front]} if found else {}))
    else:
        if found:
            out.print(front(found))
        where = asked.output if written else "not written"
        out.print(f"{where}: {count_of(mask)} cut, digest {mask.digest}", soft_wrap=True)
        out.print(measured(mask))
    for sentence in against:
        alarm(sentence)
    if not written:
        other = "--contrast difference, or leave the count out" if asked.cut else "another budget"
        alarm(f"No mask was written. Try {other}, give more prompts or text, or write it even so: --accept-worse.")
        raise typer.Exit(HARMFUL)


def _made(
    asked: Correction,
    budget: Budget,
    toxicity: ToxicityScorer,
    loaded: LoadedModel,
    prompts: ReferenceSet,
    text: ReferenceSet,
    test: Symptom | None,
    progress: Progress,
) -> tuple[masks.Mask, Found | None]:
    """The mask, and what was tried where it was searched for."""
    if asked.cut is None:
        if test is None:
            raise typer.BadParameter("a search must know what shows the behaviour: leave --no-filter out")
        corrected = correct_within(
            loaded,
            prompts,
            text,
            test,
            name=asked.name,
            budget=budget,
            rankings=asked.rankings,
            rounds=asked.rounds,
            refinement=Refinement() if asked.refine else None,
            splits=asked.splits,
            scorer=toxicity,
            asking=asked.asking,
            attributing=asked.attributing,
            progress=progress,
        )
        if corrected.over and distributed.rank() == 0:
            warn(f"on the held-out text the increase may be over {asked.increase:.2%}: see below")
        return corrected.mask, corrected.found
    asked.cut.check(loaded, asked.rankings[0])
    made, held_out, spared = {}, None, None
    if test is not None:
        prompts, held_out = prompts.split(asked.splits.held_out, asked.splits.seed)
        answered = build(loaded, prompts, test, progress=progress, **asked.asking.given())
        prompts, spared, made = answered.kept, answered.spared, {"filter": answered.described()}
        if distributed.rank() == 0:
            told(answered)
    mask = by_count(
        loaded,
        prompts,
        text,
        name=asked.name,
        cut=asked.cut,
        ranking=asked.rankings[0],
        splits=asked.splits,
        held_out_behaviour=held_out,
        test=test,
        scorer=toxicity,
        asking=asked.asking,
        attributing=asked.attributing.but(shows=test, spared=spared),
        made=made,
        progress=progress,
    )
    return mask, None
