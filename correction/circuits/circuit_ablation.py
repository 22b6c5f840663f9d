"""Everything but a circuit, taken out of a model for a while, in one of three ways.

What is kept is given by flags: name of a score (`neurons.3`, `heads.0`, `weights.<parameter>`) → bool, of its shape.
The flags cover the universe, all that could have been kept; what has none stays as it is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from correction.ablation import modified_input, zeroed_weights
from correction.attribution.criteria.criterion_settings import Settings
from correction.attribution.criteria.scored_modules import ScoredModule, find_scored_modules
from correction.circuits.prompt_pairs import TaskRow
from correction.data.tokenisation import batches
from correction.errors import CriterionError
from correction.models import LoadedModel

Kept = Mapping[str, Tensor]
Kind = Literal["zero", "mean", "counterfactual"]


@dataclass(frozen=True)
class Ablation:
    """What stands in the place of a component that is not kept.

    Attributes:
        kind: `zero`: nothing, as a mask does it. `mean`: its mean output over the corrupted prompts.
            `counterfactual`: its output at this position of this row's corrupted prompt.
        means: For `mean`, of each module by the name of its score: float32 (2, channels), at the first position and at
            all others: many models keep values there that are a thousand times larger.
    """

    kind: Kind = "zero"
    means: Mapping[str, Tensor] | None = None

    @property
    def aligned(self) -> bool:
        """Whether clean and corrupted prompts must have the same length."""
        return self.kind == "counterfactual"


ZERO = Ablation()


def make_ablation(
    loaded: LoadedModel, kind: Kind, settings: Settings, rows: Sequence[TaskRow] = (), *, tokens: int = 4096
) -> Ablation:
    """One of the three, made ready: the means are taken over the corrupted prompts of `rows`.

    Raises:
        CriterionError: Weights that are to be anything but zero.
    """
    if settings.granularity == "weight" and kind != "zero":
        raise CriterionError(f"ablation {kind!r} is of activations, and weights have none: cut them to zero")
    if kind != "mean":
        return Ablation(kind)
    places = list(find_scored_modules(loaded, settings))
    sums = {place.name: torch.zeros(2, place.module.in_features, dtype=torch.float64) for place in places}
    counts, lengths = torch.zeros(2, dtype=torch.float64), torch.empty(0)

    def adding(total: Tensor) -> Callable[[Tensor], Tensor]:
        def add(x: Tensor) -> Tensor:
            real = (torch.arange(x.shape[1]) < lengths[:, None]).to(x)
            total[0] += x[:, 0].sum(0, dtype=torch.float64).cpu()
            total[1] += torch.einsum("rpc,rp->c", x[:, 1:].float(), real[:, 1:].float()).double().cpu()
            return x

        return add

    for _, batch in batches([row.corrupted for row in rows], tokens, loaded.device):
        lengths = batch.lengths.cpu()
        counts += torch.tensor([len(lengths), int(lengths.sum()) - len(lengths)])
        with ExitStack() as stack, torch.no_grad():
            for place in places:
                change = adding(sums[place.name])
                stack.enter_context(_by_row(place.module, len(lengths), change))
            loaded.decoder(input_ids=batch.input_ids, use_cache=False)
    share = counts.clamp_min(1)[:, None]
    return Ablation("mean", {name: (total / share).float() for name, total in sums.items()})


@contextmanager
def circuit_only(
    loaded: LoadedModel, kept: Kept, how: Ablation, places: Sequence[ScoredModule], rows: int
) -> Iterator[None]:
    """Within the block the model reads batches of so many rows with the circuit alone.

    For the kind `counterfactual` the second half of the rows are the corrupted prompts of the first; they stay whole.
    Heads and neurons are replaced where they enter `o_proj` and `down_proj`; weights are overwritten, and put back.
    """
    with ExitStack() as stack:
        for place in places:
            flags = kept[place.name]
            if bool(flags.all()):
                continue
            if not place.width:
                cut = (~flags).view(-1).nonzero()[:, 0].numpy()
                stack.enter_context(zeroed_weights(place.module.weight, cut))  # type: ignore[arg-type]
                continue
            channels = flags.repeat_interleave(place.width).to(loaded.device)
            mean = None if how.means is None else how.means[place.name].to(loaded.device, loaded.dtype)
            stack.enter_context(_by_row(place.module, rows, _replacing(channels, how, mean)))
        yield


def _replacing(kept: Tensor, how: Ablation, mean: Tensor | None) -> Callable[[Tensor], Tensor]:
    def replace(x: Tensor) -> Tensor:
        if how.kind == "counterfactual":
            clean, corrupted = x.chunk(2)
            return torch.cat([torch.where(kept, clean, corrupted), corrupted])
        if mean is None:
            return x * kept
        places = (torch.arange(x.shape[1], device=x.device) > 0).long()
        return torch.where(kept, x, mean[places])

    return replace


def _by_row(module: nn.Linear, rows: int, change: Callable[[Tensor], Tensor]) -> AbstractContextManager[None]:
    """Change what enters a module, (rows, positions, channels); OPT's MLP has rows and positions in one."""
    return modified_input(module, lambda x: change(x.view(rows, -1, x.shape[-1])).view(x.shape))
