"""A sweep: what each way to choose components does to a behaviour and to perplexity, the more of them are cut."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import masks
from behaviours import ToxicityScorer, load_scorer
from correction.arms import Arm, check
from correction.correct import apart, described, mask_of, versions
from correction.criteria import Settings
from correction.errors import EvaluationError
from correction.evaluation import Evaluation, evaluate
from correction.generation import check_sampling
from correction.models import LoadedModel
from correction.points import Detail, Point, Sweep, Target, rank
from correction.progress import Progress, silent
from correction.recipe import Cut, Ranking
from correction.references import ReferenceSet
from correction.relevance import Relevance
from correction.report.sweeps import write
from correction.selection import select
from correction.symptoms import Repetitive, Toxic
from correction.tokenisation import encode

__all__ = ["Arm", "Detail", "Point", "Sweep", "Target", "rank", "report", "sweep"]


def sweep(
    loaded: LoadedModel,
    behaviour: ReferenceSet,
    general: ReferenceSet,
    prompts: ReferenceSet,
    text: ReferenceSet,
    *,
    arms: Sequence[Arm],
    counts: Sequence[int],
    seeds: Sequence[int] = (0,),
    fraction_of_set: float = 0.8,
    target: Target = "toxicity",
    perplexity_budget: float = 0.1,
    scorer: ToxicityScorer | None = None,
    raw: bool = False,
    max_length: int | None = None,
    max_new_tokens: int = 50,
    samples: int = 1,
    temperature: float = 0.0,
    tokens: int = 4096,
    progress: Progress = silent,
) -> Sweep:
    """Cut more and more components by each arm, and measure every mask on the same prompts and text.

    For each seed, each arm attributes once, on a part of both reference sets drawn with the seed. Arms of the same
    criterion and settings share the attribution. Every evaluation uses the same random numbers. An arm in which nothing
    is drawn is run with the first seed alone.

    Args:
        behaviour, general: what is attributed. prompts, text: what is measured on; nothing of the former.
        arms: the ways to choose components, each with a label of its own.
        counts: how many components to cut, ascending.
        seeds: of the parts; one line of results each.
        fraction_of_set: the part of each reference set that is attributed, over 0 and at most 1.
        target, perplexity_budget: say which point of each arm is kept with its mask and responses; see `rank`.
        scorer, samples, temperature, max_new_tokens: see `evaluate`. raw, max_length, tokens: see `attribute`.
        progress: told of every attribution, and of each point of the sweep.

    Raises:
        CorrectionError: its kinds; all that can be told of arms, counts, seeds and sets is told before the work.
    """
    if target not in get_args(Target):
        raise EvaluationError(f"target {target!r} does not exist; there is: {', '.join(get_args(Target))}")
    if not perplexity_budget >= 0:
        raise EvaluationError(f"perplexity_budget is {perplexity_budget}; give an increase such as 0.1, not under 0")
    sizes = check(loaded, arms, counts, seeds)
    check_sampling(temperature, samples, 0)
    apart(behaviour, prompts)
    apart(general, text)
    encode(loaded, prompts, raw=raw, room=max_new_tokens)  # one too long is told now, not after the work
    parts = {seed: tuple(_part(each, fraction_of_set, seed) for each in (behaviour, general)) for seed in seeds}
    options: dict[str, Any] = {"raw": raw, "max_length": max_length, "tokens": tokens, "progress": progress}
    options["shows"] = Repetitive() if target == "repetition" else Toxic(scorer or load_scorer("profanity"))
    measuring: dict[str, Any] = {
        "scorer": scorer,
        "raw": raw,
        "max_new_tokens": max_new_tokens,
        "samples": samples,
        "temperature": temperature,
        "tokens": tokens,
    }
    total = 1 + len(counts) * sum(len(arm.seeds(seeds, fraction_of_set)) for arm in arms)
    before = evaluate(loaded, prompts, text, **measuring)
    base = _point(before, None, "base", "", "", 0, 0, 0.0)
    progress("sweep", 1, total)
    points: list[Point] = []
    best: dict[str, Detail] = {}
    for seed in seeds:
        due = [arm for arm in arms if seed in arm.seeds(seeds, fraction_of_set)]
        for arm, scores in _scored(loaded, due, seed, parts[seed], options):
            for count in counts:
                mask = _mask(loaded, scores, count, arm, seed, parts[seed])
                after = evaluate(loaded, prompts, text, mask=mask, **measuring)
                told = (arm.label, arm.settings.granularity, arm.criterion, seed, count, count / sizes[arm.label])
                point = _point(after, base, *told)
                points.append(point)
                known = best.get(arm.label)
                if not known or rank(point, target, perplexity_budget) < rank(known.point, target, perplexity_budget):
                    best[arm.label] = Detail(point, mask, after)
                progress("sweep", 1 + len(points), total)
    order = {arm.label: place for place, arm in enumerate(arms)}
    points.sort(key=lambda point: order[point.arm])  # stable: seeds and counts stay as they came
    sets = {"behaviour": behaviour, "general": general, "prompts": prompts, "text": text}
    facts = {
        "model": {
            "id": loaded.base.id,
            "architecture": loaded.base.architecture,
            "fingerprint": loaded.base.fingerprint,
            "dtype": str(loaded.dtype).removeprefix("torch."),
        },
        "sets": {role: described(each) | {"sha256": each.sha256} for role, each in sets.items()},
        "measured": {key: value for key, value in before.summary().items() if key in ("scorer", "sampling")}
        | {"max_new_tokens": max_new_tokens, "samples": samples, "temperature": temperature},
        "sweep": {
            "counts": list(counts),
            "seeds": list(seeds),
            "fraction_of_set": fraction_of_set,
            "target": target,
            "perplexity_budget": perplexity_budget,
            "chat_template": not raw and getattr(loaded.tokenizer, "chat_template", None) is not None,
            "max_length": max_length,
        },
        "arms": {arm.label: arm.described() for arm in arms},
        "versions": versions(),
    }
    details = tuple(best[arm.label] for arm in arms)
    return Sweep(base, before, tuple(points), details, target, perplexity_budget, facts)


def report(sweep: Sweep, folder: str | Path) -> None:
    """Write `sweep.csv`, `curves.png`, `layers.png`, `scatter.png` and `sweep.html` into a folder, made if need be.

    Raises:
        OSError: it cannot be written there.
    """
    write(sweep, folder)


def _part(references: ReferenceSet, fraction: float, seed: int) -> ReferenceSet:
    if not 0 < fraction <= 1:
        raise EvaluationError(f"fraction_of_set is {fraction}; it must be over 0 and at most 1")
    return references if fraction == 1 else references.split(round(1 - fraction, 9), seed)[0]


def _scored(
    loaded: LoadedModel,
    arms: Sequence[Arm],
    seed: int,
    parts: Sequence[ReferenceSet],
    options: dict[str, Any],
) -> Iterator[tuple[Arm, Relevance]]:
    """Each arm with the scores that it cuts in ascending order; one attribution of each set at a time in memory."""
    rankings = [(arm, arm.ranking(seed)) for arm in arms]
    by_general: dict[tuple[Any, ...], dict[tuple[str, Settings], list[tuple[Arm, Ranking]]]] = {}
    for arm, ranking in rankings:
        alike = by_general.setdefault(ranking.of_general, {})
        alike.setdefault((ranking.criterion, ranking.settings), []).append((arm, ranking))
    for alike in by_general.values():
        reading = next((each for group in alike.values() for _, each in group if each.reads_general), None)
        kept = reading.general(loaded, parts[1], **options) if reading else None
        for group in alike.values():
            asked = any(ranking.reads_behaviour for _, ranking in group)
            unwanted = group[0][1].behaviour(loaded, parts[0], **options) if asked else None
            for arm, ranking in group:
                yield arm, ranking.contrasted(kept, unwanted if ranking.reads_behaviour else None)


def _mask(
    loaded: LoadedModel, scores: Relevance, count: int, arm: Arm, seed: int, parts: Sequence[ReferenceSet]
) -> masks.Mask:
    cut, ranking = Cut(count=count, scope=arm.scope), arm.ranking(seed)
    made = {**ranking.described(), **cut.described(), "dtype": str(loaded.dtype).removeprefix("torch.")}
    if ranking.found.reads:
        made |= {"behaviour": described(parts[0]), "general": described(parts[1]), "subset_seed": seed}
    return mask_of(loaded, select(scores, count=count, scope=arm.scope), name="sweep", made=made)


def _point(
    found: Evaluation,
    base: Point | None,
    arm: str,
    granularity: str,
    criterion: str,
    seed: int,
    count: int,
    fraction: float,
) -> Point:
    if not (found.toxicity and found.repetition and found.perplexity):
        raise EvaluationError("a point of a sweep needs prompts and text")
    perplexity = found.perplexity.estimate.value
    return Point(
        arm,
        granularity,
        criterion,
        seed,
        count,
        fraction,
        found.toxicity.rate.value,
        found.toxicity.mean.value,
        found.repetition.rate.value,
        found.repetition.mean.value,
        perplexity,
        perplexity / base.perplexity - 1 if base else 0.0,
    )
