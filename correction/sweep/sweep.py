"""A sweep: what each way to choose components does to a behaviour and to perplexity, the more of them are cut."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import masks
from behaviours import ToxicityScorer, load_scorer
from correction.attribution.criteria import Settings
from correction.attribution.relevance import Relevance
from correction.correct import build_mask, check_disjoint, describe_set, library_versions
from correction.data.detectors import RepetitionDetector, ToxicityDetector
from correction.data.generation import check_sampling
from correction.data.references import ReferenceSet
from correction.data.tokenisation import encode
from correction.errors import EvaluationError
from correction.evaluation import Evaluation, evaluate
from correction.models import LoadedModel
from correction.progress import Progress, silent
from correction.report.sweep_report import write
from correction.selection.cut import Cut
from correction.selection.ranking import Ranking
from correction.selection.top_k import select
from correction.sweep.configurations import SweepConfiguration, check_configurations
from correction.sweep.results import DetailedResult, Sweep, SweepResult, Target, result_order

__all__ = ["DetailedResult", "Sweep", "SweepConfiguration", "SweepResult", "Target", "report", "result_order", "sweep"]


def sweep(
    loaded: LoadedModel,
    behaviour: ReferenceSet,
    general: ReferenceSet,
    prompts: ReferenceSet,
    text: ReferenceSet,
    *,
    arms: Sequence[SweepConfiguration],
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
        target, perplexity_budget: say which point of each arm is kept with its mask and responses; see `result_order`.
        scorer, samples, temperature, max_new_tokens: see `evaluate`. raw, max_length, tokens: see `attribute`.
        progress: told of every attribution, and of each point of the sweep.

    Raises:
        CorrectionError: its kinds; all that can be told of arms, counts, seeds and sets is told before the work.
    """
    if target not in get_args(Target):
        raise EvaluationError(f"target {target!r} does not exist; there is: {', '.join(get_args(Target))}")
    if not perplexity_budget >= 0:
        raise EvaluationError(f"perplexity_budget is {perplexity_budget}; give an increase such as 0.1, not under 0")
    sizes = check_configurations(loaded, arms, counts, seeds)
    check_sampling(temperature, samples, 0)
    check_disjoint(behaviour, prompts)
    check_disjoint(general, text)
    encode(loaded, prompts, raw=raw, room=max_new_tokens)  # one too long is told now, not after the work
    parts = {seed: tuple(_part(each, fraction_of_set, seed) for each in (behaviour, general)) for seed in seeds}
    options: dict[str, Any] = {"raw": raw, "max_length": max_length, "tokens": tokens, "progress": progress}
    options["shows"] = (
        RepetitionDetector() if target == "repetition" else ToxicityDetector(scorer or load_scorer("profanity"))
    )
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
    points: list[SweepResult] = []
    best: dict[str, DetailedResult] = {}
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
                if not known or result_order(point, target, perplexity_budget) < result_order(
                    known.point, target, perplexity_budget
                ):
                    best[arm.label] = DetailedResult(point, mask, after)
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
        "sets": {role: describe_set(each) | {"sha256": each.sha256} for role, each in sets.items()},
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
        "versions": library_versions(),
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
    arms: Sequence[SweepConfiguration],
    seed: int,
    parts: Sequence[ReferenceSet],
    options: dict[str, Any],
) -> Iterator[tuple[SweepConfiguration, Relevance]]:
    """Each arm with the scores that it cuts in ascending order; one attribution of each set at a time in memory."""
    rankings = [(arm, arm.ranking(seed)) for arm in arms]
    by_general: dict[tuple[Any, ...], dict[tuple[str, Settings], list[tuple[SweepConfiguration, Ranking]]]] = {}
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
    loaded: LoadedModel,
    scores: Relevance,
    count: int,
    arm: SweepConfiguration,
    seed: int,
    parts: Sequence[ReferenceSet],
) -> masks.Mask:
    cut, ranking = Cut(count=count, scope=arm.scope), arm.ranking(seed)
    made = {**ranking.described(), **cut.described(), "dtype": str(loaded.dtype).removeprefix("torch.")}
    if ranking.resolved_criterion.reads:
        made |= {"behaviour": describe_set(parts[0]), "general": describe_set(parts[1]), "subset_seed": seed}
    return build_mask(loaded, select(scores, count=count, scope=arm.scope), name="sweep", made=made)


def _point(
    found: Evaluation,
    base: SweepResult | None,
    arm: str,
    granularity: str,
    criterion: str,
    seed: int,
    count: int,
    fraction: float,
) -> SweepResult:
    if not (found.toxicity and found.repetition and found.perplexity):
        raise EvaluationError("a point of a sweep needs prompts and text")
    perplexity = found.perplexity.estimate.value
    return SweepResult(
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
