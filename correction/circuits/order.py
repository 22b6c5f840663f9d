"""The order in which components are kept: relevance for the answer, the largest first."""

from collections.abc import Sequence

import torch
from torch import Tensor

from correction.attribution import criteria
from correction.attribution.criteria.criterion import on_device
from correction.attribution.criteria.criterion_settings import Settings
from correction.attribution.criteria.output_seeds import SeededBatch
from correction.attribution.relevance import Relevance
from correction.circuits.circuit_ablation import Kept
from correction.circuits.prompt_pairs import TaskRow
from correction.data.tokenisation import batches
from correction.models import LoadedModel
from correction.progress import Progress, silent
from correction.selection.smallest import k_smallest


def relevance(
    loaded: LoadedModel,
    rows: Sequence[TaskRow],
    settings: Settings,
    criterion: str = "lrp",
    *,
    tokens: int = 4096,
    progress: Progress = silent,
) -> Relevance:
    """Relevance of every component for logit(correct) − logit(wrong) at the last token, averaged over clean prompts.

    A criterion with a seed of its own takes the correct answer for the response: snip its loss. One that reads no data
    scores without it.

    Raises:
        CriterionError: An unknown criterion, or one that cannot score what was asked.
    """
    definition = criteria.find_criterion(criterion)
    definition.check(settings)
    parts = list(batches([row.clean for row in rows], tokens, loaded.device)) if definition.reads else []
    with definition.attach(loaded, settings, on_device) as attached:
        for number, (places, batch) in enumerate(parts, 1):
            batch_rows = [rows[place] for place in places]
            last = batch.lengths - 1
            index = torch.arange(len(batch_rows), device=last.device)
            correct, wrong = (
                torch.tensor([getattr(row, side) for row in batch_rows], device=last.device)
                for side in ("correct", "wrong")
            )
            ones = torch.ones(len(batch_rows), device=last.device)
            if definition.seed is None:
                index, last = index.repeat(2), last.repeat(2)
                correct, ones = torch.cat([correct, wrong]), torch.cat([ones, -ones])
            attached.see(SeededBatch(batch, index, last, correct, ones))
            progress(f"attribution, {criterion}", number, len(parts))
        scores = {name: score.mean(len(rows)).cpu() for name, score in attached.scores.items()}
    return Relevance(settings.granularity, scores, len(rows))


def top_components(found: Relevance, count: int) -> Kept:
    """Flags that keep the `count` components with the largest scores, and no other.

    Of equal scores those that come first in component order are kept; one that is not a number never is.
    """
    kept: dict[str, Tensor] = {name: torch.zeros(score.shape, dtype=torch.bool) for name, score in found.scores.items()}
    if count:
        chosen = k_smallest({name: -score for name, score in found.scores.items()}, count)
        for name, indices in chosen.items():
            kept[name].view(-1)[torch.from_numpy(indices)] = True
    return kept


def circuit_size(kept: Kept) -> int:
    """How many components are kept."""
    return sum(int(flags.sum()) for flags in kept.values())


def difference(kept: Kept, other: Kept) -> Kept:
    """What is kept of the one and not of the other."""
    return {name: flags & ~other[name] for name, flags in kept.items()}


def jaccard_index(one: Kept, other: Kept) -> float:
    """Jaccard index |A ∩ B| / |A ∪ B| in [0, 1]; 1.0 of two empty ones."""
    both = sum(int((flags & other[name]).sum()) for name, flags in one.items())
    either = sum(int((flags | other[name]).sum()) for name, flags in one.items())
    return both / either if either else 1.0
