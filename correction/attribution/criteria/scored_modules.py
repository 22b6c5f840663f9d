"""Which modules are scored: the granularity, the modules and the layers of the settings, found in a model."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from torch import nn

from correction.attribution.criteria.criterion_settings import Settings
from correction.errors import CriterionError
from correction.models import LoadedModel


@dataclass(frozen=True)
class ScoredModule:
    """A linear module whose inputs or weights are scored.

    Attributes:
        name: Of its score: `neurons.<layer>`, `heads.<layer>` or `weights.<parameter>`.
        module: The module.
        width: Input channels of one component: 1 of a neuron, `head_dim` of a head; 0 where its weights are scored.
    """

    name: str
    module: nn.Linear
    width: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the score."""
        if self.width == 0:
            return (self.module.out_features, self.module.in_features)
        return (self.module.in_features // self.width,)


def find_scored_modules(loaded: LoadedModel, settings: Settings) -> Iterator[ScoredModule]:
    """What the settings ask for, in component order.

    Raises:
        CriterionError: The model has no such layer, or no linear module of that name in those layers.
    """
    count = len(loaded.blocks)
    if wrong := [layer for layer in settings.layers or () if not 0 <= layer < count]:
        raise CriterionError(f"layers: this model has no layer {wrong[0]}; it has layers 0 to {count - 1}")
    blocks = [block for block in loaded.blocks if settings.layers is None or block.index in settings.layers]
    if settings.granularity == "neuron":
        yield from (ScoredModule(f"neurons.{block.index}", block.down_proj, 1) for block in blocks)
    elif settings.granularity == "head":
        width = loaded.base.geometry.head_dim
        yield from (ScoredModule(f"heads.{block.index}", block.o_proj, width) for block in blocks)
    else:
        wanted = settings.modules or (loaded.architecture.down_proj.rpartition(".")[2],)
        prefixes = tuple(f"{block.prefix}." for block in blocks)
        linears: dict[str, nn.Linear] = {}
        seen = set()
        for name, module in loaded.model.named_modules():
            if isinstance(module, nn.Linear) and name.startswith(prefixes):
                seen.add(last := name.rpartition(".")[2])
                if last in wanted:
                    linears[name] = module
        if missing := [name for name in wanted if name not in seen]:
            raise CriterionError(
                f"no linear module of the decoder layers is called {', '.join(missing)}; "
                f"there is: {', '.join(sorted(seen))}"
            )
        yield from (ScoredModule(f"weights.{name}.weight", module, 0) for name, module in linears.items())


def component_count(loaded: LoadedModel, settings: Settings) -> int:
    """How many components are scored."""
    return sum(prod(each.shape) for each in find_scored_modules(loaded, settings))
