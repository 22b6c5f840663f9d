"""The whole correction: reference sets → relevance → contrast → selection → a mask, measured on what was held out."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import masks
from correction.errors import ReferenceSetError
from correction.evaluation import Evaluation, compare, evaluate
from correction.models import LoadedModel
from correction.progress import Progress, silent
from correction.recipe import Cut, Ranking, Selected
from correction.references import ReferenceSet, overlap
from correction.selection import components
from correction.tokenisation import encode
from masks.meta import check_name


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
    held_out: float = 0.25,
    held_out_behaviour: ReferenceSet | None = None,
    held_out_general: ReferenceSet | None = None,
    split_seed: int = 0,
    attribution: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    made: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> masks.Mask:
    """Make a mask against a behaviour, and measure it on prompts and texts that it was not made from.

    Args:
        behaviour: what brings the behaviour out. general: what must stay as it is.
        name: of the mask.
        cut: how much.
        ranking: what orders the components; by default LRP of neurons.
        held_out: fraction of each set to measure on and keep out of the attribution, by `split_seed`; not used for a
            set whose `held_out_…` set is given.
        attribution: options of `attribute`. evaluation: options of `evaluate`.
        made: more for the mask to record: how the behaviour set came about.

    Returns:
        The mask. `meta.made` holds every setting, `meta.measured` the evaluations before and after and their paired
        differences.

    Raises:
        CorrectionError: its kinds, for a set, setting or budget that cannot be used.
        ReferenceSetError: something held out is also in the set that the mask is made from.
    """
    check_name(name)  # a mistake is told before the work, not after it
    ranking = ranking or Ranking()
    cut.check(loaded, ranking)
    attribution, evaluation = dict(attribution or {}), dict(evaluation or {})
    if held_out_behaviour is None:
        behaviour, held_out_behaviour = behaviour.split(held_out, split_seed)
    if held_out_general is None:
        general, held_out_general = general.split(held_out, split_seed)
    apart(behaviour, held_out_behaviour)
    apart(general, held_out_general)
    raw = bool(attribution.get("raw", evaluation.get("raw", False)))
    encode(loaded, held_out_behaviour, raw=raw, room=evaluation.get("max_new_tokens", 50))
    selected = cut.of(loaded, ranking, behaviour, general, progress=progress, **attribution)
    mask = mask_of(
        loaded,
        selected,
        name=name,
        made={
            **ranking.described(),
            **cut.described(),
            "behaviour": described(behaviour),
            "general": described(general),
            **recorded(overlap=len(overlap(behaviour, general)), max_length=attribution.get("max_length")),
            "split_seed": split_seed,
            "chat_template": not raw and getattr(loaded.tokenizer, "chat_template", None) is not None,
            "dtype": str(loaded.dtype).removeprefix("torch."),
            **(made or {}),
        },
    )
    found = measure(loaded, mask, held_out_behaviour, held_out_general, progress=progress, **evaluation)
    return found.mask


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


def mask_of(loaded: LoadedModel, selected: Selected, *, name: str, made: Mapping[str, Any]) -> masks.Mask:
    """Write selected components down as a mask; `made` gets the versions of the libraries too."""
    return masks.for_model(loaded.path, name, **components(selected), made={**made, "versions": versions()})


def measure(
    loaded: LoadedModel,
    mask: masks.Mask,
    prompts: ReferenceSet,
    text: ReferenceSet,
    *,
    before: Evaluation | None = None,
    progress: Progress = silent,
    **evaluation: Any,
) -> Measurement:
    """Evaluate the model without and with the mask, and write both and their difference into `meta.measured`.

    Args:
        before: the evaluation without the mask, where there is one already; of the same prompts, texts and options.
        evaluation: options of `evaluate`.
    """
    before = before or evaluate(loaded, prompts, text, progress=progress, **evaluation)
    after = evaluate(loaded, prompts, text, mask=mask, progress=progress, **evaluation)
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
    return Measurement(mask.with_meta(measured=measured), before, after)


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
