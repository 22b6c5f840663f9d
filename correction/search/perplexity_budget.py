"""A mask within a budget of quality: three splits, one to attribute, one to choose, one to report."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import masks
from behaviours import ToxicityScorer
from correction.correct import Splits, build_mask, check_disjoint, describe_set, measure, without_none
from correction.data.detectors import Detector
from correction.data.references import ReferenceSet, overlap
from correction.data.tokenisation import encode
from correction.evaluation import compare
from correction.models import LoadedModel
from correction.options import AttributionOptions, GenerationOptions
from correction.progress import Progress, silent
from correction.search.mask_search import search
from correction.search.refinement import Refinement
from correction.search.trials import SearchResult
from correction.search.validation import Budget
from correction.selection.ranking import Ranking
from masks.meta import check_name


@dataclass(frozen=True)
class CorrectionResult:
    """A mask and what the search saw on its way.

    Attributes:
        over: Whether the interval of the increase on the held-out text reaches over the budget, which the search kept
            on its own text.
    """

    mask: masks.Mask
    search_result: SearchResult
    over: bool


def correct_within_budget(
    loaded: LoadedModel,
    behaviour: ReferenceSet,
    general: ReferenceSet,
    detector: Detector,
    *,
    name: str,
    budget: Budget,
    rankings: Sequence[Ranking],
    rounds: int = 1,
    refinement: Refinement | None = Refinement(),
    splits: Splits = Splits(),
    scorer: ToxicityScorer | None = None,
    generation_options: GenerationOptions = GenerationOptions(),
    attribution_options: AttributionOptions = AttributionOptions(),
    progress: Progress = silent,
) -> CorrectionResult:
    """Make the mask that leaves least of a behaviour for at most this much of the budget on validation text.

    Args:
        loaded: The model.
        behaviour: Prompts, of which some bring the behaviour out.
        general: Text that must stay as it is.
        detector: What shows the behaviour.
        name: Name of the mask.
        budget: What the correction may cost.
        rankings: What proposes cuts.
        rounds: In how many steps the budget is spent, see `search`.
        refinement: Of the gates, see `search`; None for none.
        splits: Of both sets.
        scorer: Of the toxicity that is reported, for any behaviour.
        generation_options: How prompts are answered.
        attribution_options: How relevance is attributed.
        progress: Called after every batch.

    Returns:
        The mask, whose `meta.measured` is of the held-out sets alone, and what the search tried.

    Raises:
        CorrectionError: Its kinds, for a set, setting or budget that cannot be used.
    """
    check_name(name)
    behaviour, prompts = behaviour.split(splits.held_out, splits.seed)
    general, text = general.split(splits.held_out, splits.seed)
    behaviour, choosing_prompts = behaviour.split(splits.validation, splits.seed)
    general, choosing_text = general.split(splits.validation, splits.seed)
    check_disjoint(behaviour, text)
    # A prompt that is too long is refused before the work.
    encode(loaded, prompts, raw=generation_options.raw, room=generation_options.max_new_tokens)
    search_result = search(
        loaded,
        behaviour,
        general,
        choosing_prompts,
        choosing_text,
        detector,
        budget=budget,
        rankings=rankings,
        rounds=rounds,
        refinement=refinement,
        generation_options=generation_options,
        attribution_options=attribution_options,
        progress=progress,
    )
    chosen = search_result.chosen
    mask = build_mask(
        loaded,
        chosen.gated,
        name=name,
        made={
            "criterion": "search",
            "rankings": [ranking.described() for ranking in rankings],
            "search": {
                "max_perplexity_increase": budget.increase,
                **without_none(max_kl=budget.kl),
                "rounds": rounds,
                "refinement": refinement and asdict(refinement),
                "validation": splits.validation,
                "tried": len(search_result.tried),
                "chosen": chosen.described(),
                "shows": detector.described(),
                "prompts": describe_set(choosing_prompts),
                "text": describe_set(choosing_text),
            },
            "behaviour": describe_set(behaviour),
            "general": describe_set(general),
            **without_none(overlap=len(overlap(behaviour, general)), max_length=attribution_options.max_length),
            "split_seed": splits.seed,
            "chat_template": not generation_options.raw
            and getattr(loaded.tokenizer, "chat_template", None) is not None,
            "dtype": str(loaded.dtype).removeprefix("torch."),
        },
    )
    reporting = generation_options.replace(
        seed=generation_options.seed + 1
    )  # other random numbers than those that chose
    measured = measure(
        loaded, mask, prompts, text, detector=detector, scorer=scorer, generation_options=reporting, progress=progress
    )
    cost = compare(measured.before, measured.after).perplexity
    return CorrectionResult(measured.mask, search_result, cost is not None and cost.high > budget.increase)
