"""A sweep: what each way to choose components does to a behaviour and to perplexity, the more of them are cut."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import masks
from behaviours import ToxicityScorer, load_scorer
from correction.attribution.criteria import Settings
from correction.attribution.relevance import Relevance
from correction.correct import build_mask, check_disjoint, describe_set, library_versions
from correction.data.detectors import Detector, RepetitionDetector, ToxicityDetector
from correction.data.generation import check_sampling
from correction.data.references import ReferenceSet
from correction.data.tokenisation import encode
from correction.errors import EvaluationError
from correction.evaluation import Evaluation, evaluate
from correction.models import LoadedModel
from correction.options import GenerationOptions
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
        loaded: The model.
        behaviour: Prompts to attribute.
        general: Text to attribute.
        prompts: Prompts to measure on; none of them is in `behaviour`.
        text: Text to measure on; none of it is in `general`.
        arms: The ways to choose components, each with a label of its own.
        counts: How many components to cut, ascending.
        seeds: Of the parts; one line of results each.
        fraction_of_set: The part of each reference set that is attributed, over 0 and at most 1.
        target: The behaviour by which the best result of each arm is chosen, see `result_order`. That result is kept
            with its mask and responses.
        perplexity_budget: The relative increase of perplexity that a best result may cost.
        scorer: Of toxicity, see `evaluate`.
        raw: Prompts without the chat template.
        max_length: Texts are cut to this many tokens, see `attribute`.
        max_new_tokens: Most tokens of a response.
        samples: Responses to each prompt.
        temperature: Of the responses; 0 is greedy.
        tokens: Size of a batch, padding included.
        progress: Called after every batch of an attribution and every result of the sweep.

    Raises:
        CorrectionError: One of its kinds, for arms, counts, seeds or sets that cannot be used. Nearly all such mistakes
            are found before the work.
    """
    _check_target(target, perplexity_budget)
    sizes = check_configurations(loaded, arms, counts, seeds)
    check_sampling(temperature, samples, 0)
    check_disjoint(behaviour, prompts)
    check_disjoint(general, text)
    encode(loaded, prompts, raw=raw, room=max_new_tokens)  # one that is too long is refused before the work
    parts = {
        seed: _Parts(*(_part(references, fraction_of_set, seed) for references in (behaviour, general)))
        for seed in seeds
    }
    attribution_options: dict[str, Any] = {"raw": raw, "max_length": max_length, "tokens": tokens, "progress": progress}
    attribution_options["shows"] = _detector(target, scorer)
    generation_options = GenerationOptions(raw, max_new_tokens, samples, temperature, 0, tokens)
    evaluation_options: dict[str, Any] = {**generation_options.as_arguments(), "scorer": scorer}
    total = 1 + len(counts) * sum(len(arm.seeds(seeds, fraction_of_set)) for arm in arms)
    before = evaluate(loaded, prompts, text, **evaluation_options)
    base = _base_result(before)
    progress("sweep", 1, total)
    results: list[SweepResult] = []
    best: dict[str, DetailedResult] = {}
    for seed in seeds:
        arms_of_seed = [arm for arm in arms if seed in arm.seeds(seeds, fraction_of_set)]
        for arm, scores in _scored(loaded, arms_of_seed, seed, parts[seed], attribution_options):
            for count in counts:
                mask = _mask(loaded, scores, count, arm, seed, parts[seed])
                after = evaluate(loaded, prompts, text, mask=mask, **evaluation_options)
                result = _result(after, base, arm, seed, count, sizes[arm.label])
                results.append(result)
                if _is_better(result, best.get(arm.label), target, perplexity_budget):
                    best[arm.label] = DetailedResult(result, mask, after)
                progress("sweep", 1 + len(results), total)
    order = {arm.label: place for place, arm in enumerate(arms)}
    results.sort(key=lambda result: order[result.arm])  # stable: seeds and counts stay as they came
    facts = {
        "model": {
            "id": loaded.base.id,
            "architecture": loaded.base.architecture,
            "fingerprint": loaded.base.fingerprint,
            "dtype": str(loaded.dtype).removeprefix("torch."),
        },
        "sets": {
            role: describe_set(references) | {"sha256": references.sha256}
            for role, references in (
                ("behaviour", behaviour),
                ("general", general),
                ("prompts", prompts),
                ("text", text),
            )
        },
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
    return Sweep(base, before, tuple(results), details, target, perplexity_budget, facts)


def report(sweep: Sweep, folder: str | Path) -> None:
    """Write `sweep.csv`, `curves.png`, `layers.png`, `scatter.png` and `sweep.html` into a folder, made if need be.

    Raises:
        OSError: It cannot be written there.
    """
    write(sweep, folder)


@dataclass(frozen=True)
class _Parts:
    """The parts of both reference sets that are attributed with one seed."""

    behaviour: ReferenceSet
    general: ReferenceSet


def _check_target(target: Target, perplexity_budget: float) -> None:
    if target not in get_args(Target):
        raise EvaluationError(f"target {target!r} does not exist; there is: {', '.join(get_args(Target))}")
    if not perplexity_budget >= 0:
        raise EvaluationError(f"perplexity_budget is {perplexity_budget}; give an increase such as 0.1, not under 0")


def _detector(target: Target, scorer: ToxicityScorer | None) -> Detector:
    if target == "repetition":
        return RepetitionDetector()
    return ToxicityDetector(scorer or load_scorer("profanity"))


def _part(references: ReferenceSet, fraction: float, seed: int) -> ReferenceSet:
    if not 0 < fraction <= 1:
        raise EvaluationError(f"fraction_of_set is {fraction}; it must be over 0 and at most 1")
    return references if fraction == 1 else references.split(round(1 - fraction, 9), seed)[0]


def _scored(
    loaded: LoadedModel,
    arms: Sequence[SweepConfiguration],
    seed: int,
    parts: _Parts,
    options: dict[str, Any],
) -> Iterator[tuple[SweepConfiguration, Relevance]]:
    """Each arm with the scores that it cuts in ascending order.

    Arms that share an attribution come one after the other, so that one of each set at a time is in memory.
    """
    for same_general in _grouped([(arm, arm.ranking(seed)) for arm in arms]):
        reader = next((ranking for group in same_general for _, ranking in group if ranking.reads_general), None)
        general = reader.general(loaded, parts.general, **options) if reader else None
        for same_behaviour in same_general:
            reader = next((ranking for _, ranking in same_behaviour if ranking.reads_behaviour), None)
            behaviour = reader.behaviour(loaded, parts.behaviour, **options) if reader else None
            for arm, ranking in same_behaviour:
                yield arm, ranking.contrasted(general, behaviour if ranking.reads_behaviour else None)


RankedArm = tuple[SweepConfiguration, Ranking]


def _grouped(arms: Sequence[RankedArm]) -> list[list[list[RankedArm]]]:
    """Arms of the same general relevance together, and among them those of the same behaviour relevance."""
    by_general: dict[tuple[Any, ...], dict[tuple[str, Settings], list[RankedArm]]] = {}
    for arm, ranking in arms:
        by_behaviour = by_general.setdefault(ranking.of_general, {})
        by_behaviour.setdefault((ranking.criterion, ranking.settings), []).append((arm, ranking))
    return [list(by_behaviour.values()) for by_behaviour in by_general.values()]


def _mask(
    loaded: LoadedModel,
    scores: Relevance,
    count: int,
    arm: SweepConfiguration,
    seed: int,
    parts: _Parts,
) -> masks.Mask:
    cut, ranking = Cut(count=count, scope=arm.scope), arm.ranking(seed)
    made = {**ranking.described(), **cut.described(), "dtype": str(loaded.dtype).removeprefix("torch.")}
    if ranking.resolved_criterion.reads:
        sets = {"behaviour": describe_set(parts.behaviour), "general": describe_set(parts.general)}
        made |= {**sets, "subset_seed": seed}
    return build_mask(loaded, select(scores, count=count, scope=arm.scope), name="sweep", made=made)


def _is_better(result: SweepResult, best: DetailedResult | None, target: Target, perplexity_budget: float) -> bool:
    if best is None:
        return True
    return result_order(result, target, perplexity_budget) < result_order(best.point, target, perplexity_budget)


def _base_result(before: Evaluation) -> SweepResult:
    """The result of the model as it is."""
    return SweepResult("base", "", "", 0, 0, 0.0, **_figures(before), perplexity_increase=0.0)


def _result(
    after: Evaluation, base: SweepResult, arm: SweepConfiguration, seed: int, count: int, size: int
) -> SweepResult:
    """The result of a mask of `count` of the `size` components that an arm scores."""
    figures = _figures(after)
    return SweepResult(
        arm.label,
        arm.settings.granularity,
        arm.criterion,
        seed,
        count,
        count / size,
        **figures,
        perplexity_increase=figures["perplexity"] / base.perplexity - 1,
    )


def _figures(evaluation: Evaluation) -> dict[str, float]:
    """The measured fields of a `SweepResult`, but for the increase of perplexity."""
    if not (evaluation.toxicity and evaluation.repetition and evaluation.perplexity):
        raise EvaluationError("a point of a sweep needs prompts and text")
    return {
        "toxic_rate": evaluation.toxicity.rate.value,
        "mean_toxicity": evaluation.toxicity.mean.value,
        "repetitive_rate": evaluation.repetition.rate.value,
        "mean_uniqueness": evaluation.repetition.mean.value,
        "perplexity": evaluation.perplexity.estimate.value,
    }
