"""The whole correction: reference sets → relevance → contrast → selection → a mask, measured on what was held out."""

from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import masks
from behaviours import ToxicityScorer
from correction.attribution import attribute
from correction.contrast import contrast
from correction.criteria import Settings
from correction.criteria.lrp import scored
from correction.errors import ReferenceSetError
from correction.evaluation import Evaluation, compare, evaluate
from correction.models import LoadedModel
from correction.progress import Progress, silent
from correction.references import ReferenceSet, overlap
from correction.relevance import Relevance
from correction.selection import Scope, budget, components, select
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
    count: int | None = None,
    fraction: float | None = None,
    criterion: str = "lrp",
    settings: Settings | None = None,
    scope: Scope = "global",
    held_out: float = 0.25,
    held_out_behaviour: ReferenceSet | None = None,
    held_out_general: ReferenceSet | None = None,
    split_seed: int = 0,
    scorer: ToxicityScorer | None = None,
    raw: bool = False,
    max_length: int | None = None,
    max_new_tokens: int = 50,
    tokens: int = 4096,
    progress: Progress = silent,
) -> masks.Mask:
    """Make a mask against a behaviour, and measure it on prompts and texts that it was not made from.

    Args:
        behaviour: what brings the behaviour out. general: what must stay as it is.
        name: of the mask.
        count, fraction: how many components to cut, one of the two.
        held_out: fraction of each set to measure on and keep out of the attribution, by `split_seed`; not used for a
            set whose `held_out_…` set is given.
        raw, max_length, tokens, progress: see `attribute`. max_new_tokens, scorer: see `evaluate`.

    Returns:
        The mask. `meta.made` holds every setting, `meta.measured` the evaluations before and after and their paired
        differences.

    Raises:
        CorrectionError: its kinds, for a set, setting or budget that cannot be used.
        ReferenceSetError: something held out is also in the set that the mask is made from.
    """
    check_name(name)  # a mistake in a name or a budget is told before the work, not after it
    settings = settings or Settings.default()
    budget(scored(loaded, settings), settings.granularity, count=count, fraction=fraction)
    if held_out_behaviour is None:
        behaviour, held_out_behaviour = behaviour.split(held_out, split_seed)
    if held_out_general is None:
        general, held_out_general = general.split(held_out, split_seed)
    for seen, unseen in ((behaviour, held_out_behaviour), (general, held_out_general)):
        if shared := overlap(unseen, seen):
            raise ReferenceSetError(
                f"{len(shared)} of {unseen.name}, held out, are also in {seen.name}, for example {shared[0][:80]!r}; "
                "what a mask is measured on must not be what it was made from"
            )
    encode(loaded, held_out_behaviour, raw=raw, room=max_new_tokens)  # one too long is told now, not after the work
    options: dict[str, Any] = {"criterion": criterion, "raw": raw, "max_length": max_length, "tokens": tokens}
    unwanted = attribute(loaded, behaviour, settings, progress=progress, **options)
    kept = attribute(loaded, general, settings, progress=progress, **options)
    mask = mask_of(
        loaded,
        contrast(kept, unwanted),
        name=name,
        count=count,
        fraction=fraction,
        scope=scope,
        made={
            "criterion": criterion,
            **_settings(criterion, settings),
            "contrast": "general - behaviour",
            "behaviour": described(behaviour),
            "general": described(general),
            "overlap": len(overlap(behaviour, general)),
            "split_seed": split_seed,
            "chat_template": not raw and getattr(loaded.tokenizer, "chat_template", None) is not None,
            "max_length": max_length,
            "dtype": str(loaded.dtype).removeprefix("torch."),
        },
    )
    return measure(
        loaded,
        mask,
        held_out_behaviour,
        held_out_general,
        scorer=scorer,
        raw=raw,
        max_new_tokens=max_new_tokens,
        tokens=tokens,
        progress=progress,
    ).mask


def mask_of(
    loaded: LoadedModel,
    scores: Relevance,
    *,
    name: str,
    count: int | None = None,
    fraction: float | None = None,
    scope: Scope = "global",
    made: dict[str, Any] | None = None,
) -> masks.Mask:
    """Select the smallest scores and write them down as a mask; `made` gets the budget and the versions too."""
    selected = select(scores, count=count, fraction=fraction, scope=scope)
    budget = {"count": count} if fraction is None else {"fraction": fraction}
    made = {**(made or {}), "scope": scope, "budget": budget, "versions": versions()}
    neurons, weights = components(selected)
    return masks.for_model(loaded.path, name, neurons=neurons, weights=weights, made=made)


def measure(
    loaded: LoadedModel,
    mask: masks.Mask,
    prompts: ReferenceSet,
    text: ReferenceSet,
    *,
    before: Evaluation | None = None,
    scorer: ToxicityScorer | None = None,
    raw: bool = False,
    max_new_tokens: int = 50,
    tokens: int = 4096,
    progress: Progress = silent,
) -> Measurement:
    """Evaluate the model without and with the mask, and write both and their difference into `meta.measured`.

    Args:
        before: the evaluation without the mask, where there is one already; of the same prompts, texts and options.
    """
    options: dict[str, Any] = {
        "scorer": scorer,
        "raw": raw,
        "max_new_tokens": max_new_tokens,
        "tokens": tokens,
        "progress": progress,
    }
    before = before or evaluate(loaded, prompts, text, **options)
    after = evaluate(loaded, prompts, text, mask=mask, **options)
    measured: dict[str, Any] = {
        "prompts": described(prompts),
        "text": described(text),
        "confidence": before.confidence,
        "before": before.summary(),
        "after": after.summary(),
        "difference": compare(before, after).summary(),
    }
    for shared in ("scorer", "max_new_tokens", "passages"):  # the same on both sides: said once
        measured[shared] = measured["before"].pop(shared)
        del measured["after"][shared]
    return Measurement(mask.with_meta(measured=measured), before, after)


def described(references: ReferenceSet) -> dict[str, Any]:
    """A reference set as a mask records it: name, kind, size and sha256."""
    return {
        "name": references.name,
        "kind": references.kind,
        "size": len(references),
        "sha256": references.sha256,
    }


def versions() -> dict[str, str]:
    """Of the libraries that an attribution depends on; `unknown` where one runs uninstalled."""
    found = {}
    for library in ("excise", "torch", "transformers"):
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "unknown"
    return found


def _settings(criterion: str, settings: Settings) -> dict[str, Any]:
    """The settings that had a say."""
    told = asdict(settings)
    if settings.granularity == "neuron":
        del told["modules"]
    if settings.seed != "response":
        del told["response_tokens"]
    if criterion == "random":
        del told["seed"], told["sign"]
    else:
        del told["random_seed"]
    return {key: list(value) if isinstance(value, tuple) else value for key, value in told.items()}
