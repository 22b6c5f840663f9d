"""The whole correction: reference sets → relevance → contrast → selection → a mask, measured on what was held out."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

import masks
from behaviours import ToxicityScorer
from correction.errors import ReferenceSetError
from correction.evaluation import Evaluation, compare, evaluate
from correction.evaluation.bootstrap import rate, rate_difference
from correction.models import LoadedModel
from correction.options import Asking, Attributing
from correction.progress import Progress, silent
from correction.recipe import Cut, Ranking
from correction.references import ReferenceSet, overlap
from correction.selection import components
from correction.strength import Gated
from correction.symptoms import Symptom
from correction.tokenisation import encode
from masks.meta import check_name


@dataclass(frozen=True)
class Splits:
    """Which parts of the reference sets have no say in what is cut.

    Attributes:
        held_out: fraction of each set to measure on. validation: of the rest, fraction to choose by, for a search.
        seed: of the draws.
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
    test: Symptom | None = None,
    scorer: ToxicityScorer | None = None,
    asking: Asking = Asking(),
    attributing: Attributing = Attributing(),
    made: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> masks.Mask:
    """Make a mask against a behaviour, and measure it on prompts and texts that it was not made from.

    Args:
        behaviour: what brings the behaviour out. general: what must stay as it is.
        name: of the mask.
        cut: how much.
        ranking: what orders the components; by default LRP of neurons against their cost.
        splits: what is measured on and kept out of the attribution; not used for a set whose `held_out_…` set is given.
        test: what shows the behaviour, where that is to be measured.
        scorer: of the toxicity that is measured. asking: how prompts are answered.
        attributing: how relevance is attributed.
        made: more for the mask to record: how the behaviour set came about.

    Returns:
        The mask. `meta.made` holds every setting, `meta.measured` the evaluations before and after and their paired
        differences.

    Raises:
        CorrectionError: its kinds, for a set, setting or budget that cannot be used.
        ReferenceSetError: something held out is also in the set that the mask is made from.
    """
    check_name(name)  # a mistake is told before the work, not after it
    ranking = ranking or Ranking.default()
    cut.check(loaded, ranking)
    if held_out_behaviour is None:
        behaviour, held_out_behaviour = behaviour.split(splits.held_out, splits.seed)
    if held_out_general is None:
        general, held_out_general = general.split(splits.held_out, splits.seed)
    apart(behaviour, held_out_behaviour)
    apart(general, held_out_general)
    encode(loaded, held_out_behaviour, raw=asking.raw, room=asking.max_new_tokens)
    selected = cut.of(loaded, ranking, behaviour, general, progress=progress, **attributing.given())
    mask = mask_of(
        loaded,
        selected,
        name=name,
        made={
            **ranking.described(),
            **cut.described(),
            "behaviour": described(behaviour),
            "general": described(general),
            **recorded(overlap=len(overlap(behaviour, general)), max_length=attributing.max_length),
            "split_seed": splits.seed,
            "chat_template": not asking.raw and getattr(loaded.tokenizer, "chat_template", None) is not None,
            "dtype": str(loaded.dtype).removeprefix("torch."),
            **(made or {}),
        },
    )
    held_out = held_out_behaviour, held_out_general
    return measure(loaded, mask, *held_out, test=test, scorer=scorer, asking=asking, progress=progress).mask


def apart(seen: ReferenceSet, unseen: ReferenceSet) -> None:
    """Refuse to measure on what a mask is made from.

    Raises:
        ReferenceSetError: the two have a text in common.
    """
    if shared := overlap(unseen, seen):
        raise ReferenceSetError(
            f"{len(shared)} of {unseen.name}, held out, are also in {seen.name}, for example {shared[0][:80]!r}; "
            "what a mask is measured on must not be what it was made from"
        )


def mask_of(loaded: LoadedModel, gated: Gated, *, name: str, made: Mapping[str, Any]) -> masks.Mask:
    """Write components and their gates down as a mask; `made` gets the versions of the libraries too."""
    return masks.for_model(loaded.path, name, **components(gated), made={**made, "versions": versions()})


def measure(
    loaded: LoadedModel,
    mask: masks.Mask,
    prompts: ReferenceSet,
    text: ReferenceSet,
    *,
    test: Symptom | None = None,
    scorer: ToxicityScorer | None = None,
    asking: Asking = Asking(),
    before: Evaluation | None = None,
    progress: Progress = silent,
) -> Measurement:
    """Evaluate the model without and with the mask, and write both and their difference into `meta.measured`.

    Args:
        test: what shows the behaviour; how many responses do is measured then as `shown`.
        scorer: of toxicity. asking: how prompts are answered.
        before: the evaluation without the mask, where there is one already; of the same prompts, texts and options.
    """
    options: dict[str, Any] = {**asking.given(), "scorer": scorer, "progress": progress}
    before = before or evaluate(loaded, prompts, text, **options)
    after = evaluate(loaded, prompts, text, mask=mask, **options)
    figures = before.summary(), after.summary()
    measured: dict[str, Any] = {
        "prompts": described(prompts),
        "text": described(text),
        "confidence": before.confidence,
        "before": figures[0],
        "after": figures[1],
        "difference": compare(before, after).summary(),
    }
    for key in SHARED & figures[0].keys():  # the same on both sides: said once
        measured[key] = figures[0].pop(key)
        del figures[1][key]
    if test is not None:
        measured["shown"] = _shown(before, after, test, asking.samples)
    return Measurement(mask.with_meta(measured=measured), before, after)


def _shown(before: Evaluation, after: Evaluation, test: Symptom, samples: int) -> dict[str, Any]:
    """How many responses show the behaviour, before and after, and the paired difference."""
    flags = [test.counted(each.responses, test.scores(each.responses)).astype(np.float64) for each in (before, after)]
    told = {"before": rate(flags[0], samples), "after": rate(flags[1], samples)}
    difference = rate_difference(flags[0], flags[1], samples)
    return {
        **{side: [each.count, each.total, *_rounded(each.low, each.high)] for side, each in told.items()},
        "difference": _rounded(difference.value, difference.low, difference.high),
    }


def _rounded(*values: float) -> list[float]:
    return [round(value, 4) for value in values]


SHARED = {"scorer", "max_new_tokens", "sampling", "passages", "perplexity_protocol", "windows", "window"}


def recorded(**values: Any) -> dict[str, Any]:
    """Those that are not nothing: a mask stays small by leaving out what goes without saying."""
    return {key: value for key, value in values.items() if value}


def described(references: ReferenceSet) -> dict[str, Any]:
    """A reference set as a mask records it: name, size and the first 16 digits of its sha256."""
    return {"name": references.name, "size": len(references), "sha256": references.sha256[:16]}


def versions() -> dict[str, str]:
    """Of the libraries that an attribution depends on; `unknown` where one runs uninstalled."""
    found = {}
    for library in ("excise", "torch", "transformers"):
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "unknown"
    return found
