"""The whole correction: reference sets → relevance → contrast → selection → a mask, measured on what was held out."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

import masks
from behaviours import ToxicityScorer
from correction.data.detectors import Detector
from correction.data.references import ReferenceSet, overlap
from correction.data.tokenisation import encode
from correction.errors import ReferenceSetError
from correction.evaluation import Evaluation, compare, evaluate
from correction.models import LoadedModel
from correction.options import AttributionOptions, GenerationOptions
from correction.progress import Progress, silent
from correction.search.strength import Gated
from correction.selection.cut import Cut
from correction.selection.ranking import Ranking
from correction.selection.top_k import components_by_layer
from masks.meta import check_name
from stats.estimates import rate, rate_difference


@dataclass(frozen=True)
class Splits:
    """Which parts of the reference sets are kept out of the attribution.

    Attributes:
        held_out: Fraction of each set to measure on.
        validation: Of the rest, fraction to choose by, for a search.
        seed: Of the draws.
    """

    held_out: float = 0.25
    validation: float = 0.25
    seed: int = 0


@dataclass(frozen=True)
class Measurement:
    """A mask with what it measured, and the two evaluations behind it."""

    mask: masks.Mask
    before: Evaluation
    after: Evaluation


def correct(
    loaded: LoadedModel,
    behaviour: ReferenceSet,
    general: ReferenceSet,
    *,
    name: str,
    cut: Cut,
    ranking: Ranking | None = None,
    splits: Splits = Splits(),
    held_out_behaviour: ReferenceSet | None = None,
    held_out_general: ReferenceSet | None = None,
    detector: Detector | None = None,
    scorer: ToxicityScorer | None = None,
    generation_options: GenerationOptions = GenerationOptions(),
    attribution_options: AttributionOptions = AttributionOptions(),
    made: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> masks.Mask:
    """Make a mask against a behaviour, and measure it on prompts and texts that it was not made from.

    Args:
        loaded: The model.
        behaviour: Prompts that bring the behaviour out.
        general: Text that must stay as it is.
        name: Name of the mask.
        cut: How much is cut.
        ranking: What orders the components; by default LRP of neurons against their cost.
        splits: Parts that are measured on and kept out of the attribution; not used for a set whose `held_out_…` set is
            given.
        held_out_behaviour: Prompts to measure on; by default a part of `behaviour`.
        held_out_general: Text to measure on; by default a part of `general`.
        detector: What shows the behaviour, if the rate of the behaviour is to be measured.
        scorer: Of the toxicity that is measured.
        generation_options: How prompts are answered.
        attribution_options: How relevance is attributed.
        made: More for the mask to record, such as how the behaviour set was built.
        progress: Called after every batch.

    Returns:
        The mask. `meta.made` holds every setting, `meta.measured` the evaluations before and after and their paired
        differences.

    Raises:
        CorrectionError: Its kinds, for a set, setting or budget that cannot be used.
        ReferenceSetError: Something held out is also in the set that the mask is made from.
    """
    check_name(name)  # before the work, so that a mistake shows at once
    ranking = ranking or Ranking.default()
    cut.check(loaded, ranking)
    if held_out_behaviour is None:
        behaviour, held_out_behaviour = behaviour.split(splits.held_out, splits.seed)
    if held_out_general is None:
        general, held_out_general = general.split(splits.held_out, splits.seed)
    check_disjoint(behaviour, held_out_behaviour)
    check_disjoint(general, held_out_general)
    encode(loaded, held_out_behaviour, raw=generation_options.raw, room=generation_options.max_new_tokens)
    selected = cut.of(loaded, ranking, behaviour, general, progress=progress, **attribution_options.as_arguments())
    mask = build_mask(
        loaded,
        selected,
        name=name,
        made={
            **ranking.described(),
            **cut.described(),
            "behaviour": describe_set(behaviour),
            "general": describe_set(general),
            **without_none(overlap=len(overlap(behaviour, general)), max_length=attribution_options.max_length),
            "split_seed": splits.seed,
            "chat_template": not generation_options.raw
            and getattr(loaded.tokenizer, "chat_template", None) is not None,
            "dtype": str(loaded.dtype).removeprefix("torch."),
            **(made or {}),
        },
    )
    return measure(
        loaded,
        mask,
        held_out_behaviour,
        held_out_general,
        detector=detector,
        scorer=scorer,
        generation_options=generation_options,
        progress=progress,
    ).mask


def check_disjoint(seen: ReferenceSet, unseen: ReferenceSet) -> None:
    """Refuse to measure on what a mask is made from.

    Raises:
        ReferenceSetError: The two have a text in common.
    """
    if shared := overlap(unseen, seen):
        raise ReferenceSetError(
            f"{len(shared)} of {unseen.name}, held out, are also in {seen.name}, for example {shared[0][:80]!r}; "
            "what a mask is measured on must not be what it was made from"
        )


def build_mask(loaded: LoadedModel, gated: Gated, *, name: str, made: Mapping[str, Any]) -> masks.Mask:
    """Write components and their gates down as a mask; `made` gets the versions of the libraries too."""
    return masks.for_model(
        loaded.path, name, **components_by_layer(gated), made={**made, "versions": library_versions()}
    )


def measure(
    loaded: LoadedModel,
    mask: masks.Mask,
    prompts: ReferenceSet,
    text: ReferenceSet,
    *,
    detector: Detector | None = None,
    scorer: ToxicityScorer | None = None,
    generation_options: GenerationOptions = GenerationOptions(),
    before: Evaluation | None = None,
    progress: Progress = silent,
) -> Measurement:
    """Evaluate the model without and with the mask, and write both and their difference into `meta.measured`.

    Args:
        loaded: The model.
        mask: The mask.
        prompts: Prompts to answer.
        text: Text to read.
        detector: What shows the behaviour. The rate of responses that do is then measured, as `shown`.
        scorer: Of toxicity.
        generation_options: How prompts are answered.
        before: The evaluation without the mask, of the same prompts, texts and options; by default it is made.
        progress: Called after every batch.
    """
    options: dict[str, Any] = {**generation_options.as_arguments(), "scorer": scorer, "progress": progress}
    before = before or evaluate(loaded, prompts, text, **options)
    after = evaluate(loaded, prompts, text, mask=mask, **options)
    figures = before.summary(), after.summary()
    measured: dict[str, Any] = {
        "prompts": describe_set(prompts),
        "text": describe_set(text),
        "confidence": before.confidence,
        "before": figures[0],
        "after": figures[1],
        "difference": compare(before, after).summary(),
    }
    for key in SHARED & figures[0].keys():  # the same before and after: written once
        measured[key] = figures[0].pop(key)
        del figures[1][key]
    if detector is not None:
        measured["shown"] = _behaviour_rates(before, after, detector, generation_options.samples)
    return Measurement(mask.with_meta(measured=measured), before, after)


def _behaviour_rates(before: Evaluation, after: Evaluation, detector: Detector, samples: int) -> dict[str, Any]:
    """How many responses show the behaviour, before and after, and the paired difference."""
    flags = [
        detector.counted(side.responses, detector.scores(side.responses)).astype(np.float64) for side in (before, after)
    ]
    rates = {"before": rate(flags[0], samples), "after": rate(flags[1], samples)}
    difference = rate_difference(flags[0], flags[1], samples)
    return {
        **{side: [rate.count, rate.total, *_rounded(rate.low, rate.high)] for side, rate in rates.items()},
        "difference": _rounded(difference.value, difference.low, difference.high),
    }


def _rounded(*values: float) -> list[float]:
    return [round(value, 4) for value in values]


SHARED = {"scorer", "max_new_tokens", "sampling", "passages", "perplexity_protocol", "windows", "window"}


def without_none(**values: Any) -> dict[str, Any]:
    """The values that are neither None nor 0 nor empty: a mask stays small by leaving the others out."""
    return {key: value for key, value in values.items() if value}


def describe_set(references: ReferenceSet) -> dict[str, Any]:
    """A reference set as a mask records it: name, size and the first 16 digits of its sha256."""
    return {"name": references.name, "size": len(references), "sha256": references.sha256[:16]}


def library_versions() -> dict[str, str]:
    """Of the libraries that an attribution depends on; `unknown` where one runs uninstalled."""
    versions = {}
    for library in ("excise", "torch", "transformers"):
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "unknown"
    return versions
