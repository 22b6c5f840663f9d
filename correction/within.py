"""A mask within a budget of quality: three splits, one to attribute, one to choose, one to report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import masks
from behaviours import ToxicityScorer
from correction.correct import Measurement, apart, described, mask_of, measure, recorded
from correction.evaluation import compare
from correction.evaluation.bootstrap import rate, rate_difference
from correction.models import LoadedModel
from correction.progress import Progress, silent
from correction.recipe import Ranking
from correction.references import ReferenceSet, overlap
from correction.search import Found, search
from correction.symptoms import Symptom
from correction.tokenisation import encode
from masks.meta import check_name


@dataclass(frozen=True)
class Corrected:
    """A mask and what the search saw on its way.

    Attributes:
        over: whether the interval of the increase on the held-out text reaches over the budget, which the search kept
            on its own text.
    """

    mask: masks.Mask
    found: Found
    over: bool


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
    """Make the mask that leaves least of a behaviour for at most this increase of perplexity on validation text.

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
    asking, work = dict(asking or {}), dict(attribution or {})
    behaviour, prompts = behaviour.split(held_out, split_seed)
    general, text = general.split(held_out, split_seed)
    behaviour, choosing_prompts = behaviour.split(validation, split_seed)
    general, choosing_text = general.split(validation, split_seed)
    apart(behaviour, text)
    room = asking.get("max_new_tokens", 50)
    encode(loaded, prompts, raw=bool(asking.get("raw")), room=room)  # one too long is told now, not after the work
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
        attribution=work,
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
                "validation": validation,
                "tried": len(found.tried),
                "chosen": chosen.described(),
                "shows": test.described(),
                "prompts": described(choosing_prompts),
                "text": described(choosing_text),
            },
            "behaviour": described(behaviour),
            "general": described(general),
            **recorded(overlap=len(overlap(behaviour, general)), max_length=work.get("max_length")),
            "split_seed": split_seed,
            "chat_template": not asking.get("raw") and getattr(loaded.tokenizer, "chat_template", None) is not None,
            "dtype": str(loaded.dtype).removeprefix("torch."),
        },
    )
    # Other random numbers than those that chose.
    reporting = {**asking, "seed": asking.get("seed", 0) + 1}
    measured = measure(loaded, mask, prompts, text, scorer=scorer, progress=progress, **reporting)
    shown = _shown(measured, test, reporting.get("samples", 1))
    mask = measured.mask.with_meta(measured={**measured.mask.meta.measured, "shown": shown})
    cost = compare(measured.before, measured.after).perplexity
    return Corrected(mask, found, cost is not None and cost.high > max_increase)


def _shown(measured: Measurement, test: Symptom, samples: int) -> dict[str, Any]:
    """How many responses to the held-out prompts show the behaviour, before and after, and the paired difference."""
    flags = []
    for evaluation in (measured.before, measured.after):
        scores = test.scores(evaluation.responses)
        flags.append(test.counted(evaluation.responses, scores).astype(np.float64))
    told = {"before": rate(flags[0], samples), "after": rate(flags[1], samples)}
    difference = rate_difference(flags[0], flags[1], samples)
    return {
        **{side: [each.count, each.total, *_rounded(each.low, each.high)] for side, each in told.items()},
        "difference": _rounded(difference.value, difference.low, difference.high),
    }


def _rounded(*values: float) -> list[float]:
    return [round(value, 4) for value in values]
