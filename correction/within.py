"""A mask within a budget of quality: three splits, one to attribute, one to choose, one to report."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

import masks
from behaviours import ToxicityScorer
from correction.ablation import ablated
from correction.behaviour_set import answer
from correction.correct import apart, described, mask_of, measure
from correction.evaluation.bootstrap import rate, rate_difference
from correction.models import LoadedModel
from correction.progress import Progress, silent
from correction.recipe import Ranking
from correction.references import ReferenceSet, overlap
from correction.search import Found, search
from correction.symptoms import Symptom
from masks.meta import check_name


@dataclass(frozen=True)
class Corrected:
    """A mask, what the search saw on its way, and the sets that it was measured on."""

    mask: masks.Mask
    found: Found


def correct_within(
    loaded: LoadedModel,
    behaviour: ReferenceSet,
    general: ReferenceSet,
    test: Symptom,
    *,
    name: str,
    max_increase: float,
    rankings: Sequence[Ranking],
    rounds: int = 2,
    held_out: float = 0.25,
    validation: float = 0.25,
    split_seed: int = 0,
    scorer: ToxicityScorer | None = None,
    asking: Mapping[str, Any] | None = None,
    attribution: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Corrected:
    """Make the mask that leaves least of a behaviour for at most this increase of perplexity.

    Args:
        behaviour: prompts, whether or not they bring the behaviour out. general: text that must stay as it is.
        test: what shows the behaviour.
        name: of the mask.
        max_increase, rankings, rounds: see `search`.
        held_out: fraction of each set to report on. validation: fraction of the rest to choose by.
        scorer: of the toxicity that is reported, whatever the behaviour is.
        asking: options of `answer`. attribution: options of `attribute`.

    Returns:
        The mask, whose `meta.measured` is of the held-out sets alone, and what the search tried.

    Raises:
        CorrectionError: its kinds, for a set, setting or budget that cannot be used.
    """
    check_name(name)
    asking = dict(asking or {})
    behaviour, prompts = behaviour.split(held_out, split_seed)
    general, text = general.split(held_out, split_seed)
    behaviour, choosing_prompts = behaviour.split(validation, split_seed)
    general, choosing_text = general.split(validation, split_seed)
    apart(general, text)
    found = search(
        loaded,
        behaviour,
        general,
        choosing_prompts,
        choosing_text,
        test,
        max_increase=max_increase,
        rankings=rankings,
        rounds=rounds,
        asking=asking,
        attribution=attribution,
        progress=progress,
    )
    chosen = found.chosen
    mask = mask_of(
        loaded,
        chosen.selected,
        name=name,
        made={
            "criterion": "search",
            "rankings": [ranking.described() for ranking in rankings],
            "search": {
                "max_perplexity_increase": max_increase,
                "rounds": rounds,
                "tried": len(found.tried),
                "chosen": chosen.described(),
                "shows": test.described(),
                "prompts": described(choosing_prompts),
                "text": described(choosing_text),
            },
            "behaviour": described(behaviour),
            "general": described(general),
            "overlap": len(overlap(behaviour, general)),
            "split_seed": split_seed,
            "chat_template": not asking.get("raw") and getattr(loaded.tokenizer, "chat_template", None) is not None,
            "dtype": str(loaded.dtype).removeprefix("torch."),
        },
    )
    # Other random numbers than those that chose.
    reporting = {**asking, "seed": asking.get("seed", 0) + 1}
    measured = measure(loaded, mask, prompts, text, scorer=scorer, progress=progress, **reporting).mask
    shown = _shown(loaded, measured, prompts, test, reporting)
    return Corrected(measured.with_meta(measured={**measured.meta.measured, "shown": shown}), found)


def _shown(
    loaded: LoadedModel, mask: masks.Mask, prompts: ReferenceSet, test: Symptom, asking: Mapping[str, Any]
) -> dict[str, Any]:
    """How many responses to the held-out prompts show the behaviour, before and after, and the paired difference."""
    flags = []
    for context in (nullcontext(), ablated(loaded, mask)):
        with context:
            found = answer(loaded, prompts, test, **asking)
            flags.append(test.counted(found.responses, found.scores).astype(np.float64))
    samples = asking.get("samples", 1)
    before, after = (rate(each, samples) for each in flags)
    difference = rate_difference(flags[0], flags[1], samples)
    told = {"before": before, "after": after}
    return {
        **{side: [each.count, each.total, *_rounded(each.low, each.high)] for side, each in told.items()},
        "difference": _rounded(difference.value, difference.low, difference.high),
    }


def _rounded(*values: float) -> list[float]:
    return [round(value, 4) for value in values]
