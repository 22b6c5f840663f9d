"""A mask within a budget of quality: three splits, one to attribute, one to choose, one to report."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import masks
from behaviours import ToxicityScorer
from correction.correct import Splits, apart, described, mask_of, measure, recorded
from correction.evaluation import compare
from correction.models import LoadedModel
from correction.options import Asking, Attributing
from correction.progress import Progress, silent
from correction.recipe import Ranking
from correction.references import ReferenceSet, overlap
from correction.refinement import Refinement
from correction.search import search
from correction.symptoms import Symptom
from correction.tokenisation import encode
from correction.trials import Found
from correction.validation import Budget
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
    budget: Budget,
    rankings: Sequence[Ranking],
    rounds: int = 1,
    refinement: Refinement | None = Refinement(),
    splits: Splits = Splits(),
    scorer: ToxicityScorer | None = None,
    asking: Asking = Asking(),
    attributing: Attributing = Attributing(),
    progress: Progress = silent,
) -> Corrected:
    """Make the mask that leaves least of a behaviour for at most this much of the budget on validation text.

    Args:
        behaviour: prompts, whether or not they bring the behaviour out. general: text that must stay as it is.
        test: what shows the behaviour.
        name: of the mask.
        budget, rankings, rounds, refinement: see `search`.
        splits: of both sets.
        scorer: of the toxicity that is reported, whatever the behaviour is.
        asking: how prompts are answered. attributing: how relevance is attributed.

    Returns:
        The mask, whose `meta.measured` is of the held-out sets alone, and what the search tried.

    Raises:
        CorrectionError: its kinds, for a set, setting or budget that cannot be used.
    """
    check_name(name)
    behaviour, prompts = behaviour.split(splits.held_out, splits.seed)
    general, text = general.split(splits.held_out, splits.seed)
    behaviour, choosing_prompts = behaviour.split(splits.validation, splits.seed)
    general, choosing_text = general.split(splits.validation, splits.seed)
    apart(behaviour, text)
    # One too long is told now, not after the work.
    encode(loaded, prompts, raw=asking.raw, room=asking.max_new_tokens)
    found = search(
        loaded,
        behaviour,
        general,
        choosing_prompts,
        choosing_text,
        test,
        budget=budget,
        rankings=rankings,
        rounds=rounds,
        refinement=refinement,
        asking=asking,
        attributing=attributing,
        progress=progress,
    )
    chosen = found.chosen
    mask = mask_of(
        loaded,
        chosen.gated,
        name=name,
        made={
            "criterion": "search",
            "rankings": [ranking.described() for ranking in rankings],
            "search": {
                "max_perplexity_increase": budget.increase,
                **recorded(max_kl=budget.kl),
                "rounds": rounds,
                "refinement": refinement and asdict(refinement),
                "validation": splits.validation,
                "tried": len(found.tried),
                "chosen": chosen.described(),
                "shows": test.described(),
                "prompts": described(choosing_prompts),
                "text": described(choosing_text),
            },
            "behaviour": described(behaviour),
            "general": described(general),
            **recorded(overlap=len(overlap(behaviour, general)), max_length=attributing.max_length),
            "split_seed": splits.seed,
            "chat_template": not asking.raw and getattr(loaded.tokenizer, "chat_template", None) is not None,
            "dtype": str(loaded.dtype).removeprefix("torch."),
        },
    )
    reporting = asking.but(seed=asking.seed + 1)  # other random numbers than those that chose
    measured = measure(loaded, mask, prompts, text, test=test, scorer=scorer, asking=reporting, progress=progress)
    cost = compare(measured.before, measured.after).perplexity
    return Corrected(measured.mask, found, cost is not None and cost.high > budget.increase)
