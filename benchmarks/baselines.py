"""What corrections are compared with: AurA, a shift of means, and a system prompt; each from its formulas.

Every one is put on a model for the length of a block, so that generation and evaluation run inside as they do under
`correction.ablation.ablated`. What is fitted is fitted on token ids, bad samples and good ones, each a prompt with its
response or a text. None of them is a mask: a factor or a shift is any number, in every layer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from correction.data.tokenisation import Batch, batches
from correction.models import LoadedModel
from stats.auroc import auroc

Place = Literal["linears", "neurons"]
"""What AurA scales: the outputs of all linear modules of an MLP, as its authors do, or the inputs of `down_proj`."""

Samples = Sequence[Sequence[int]]
Values = dict[str, Tensor]
"""One row of numbers a module, by the module's name in the model: float32 (width,)."""


@contextmanager
def aura(loaded: LoadedModel, bad: Samples, good: Samples, place: Place = "linears") -> Iterator[None]:
    """AurA, fitted on the samples, within the block (Suau et al. 2024, arXiv 2407.12824, equations 1 to 3)."""
    with scaled(loaded, aura_factors(loaded, bad, good, place), place):
        yield


def aura_factors(loaded: LoadedModel, bad: Samples, good: Samples, place: Place = "linears") -> Values:
    """α = 1 − 2 (AUROC − ½) of every unit whose AUROC exceeds ½, and 1 of every other.

    The AUROC is that of the unit's highest value over the tokens of a sample, as a classifier of bad against good.
    """
    highest: dict[str, list[Tensor]] = {}
    order: list[int] = []
    for places, batch in batches([*bad, *good], 4096, loaded.device):
        real = _real(batch)

        def see(name: str, values: Tensor, real: Tensor = real) -> None:
            by_row = values.reshape(*real.shape, -1).float()
            highest.setdefault(name, []).append(by_row.masked_fill(~real[..., None], -torch.inf).amax(1).cpu())

        with observed(loaded, place, see), torch.no_grad():
            loaded.decoder(input_ids=batch.input_ids, use_cache=False)
        order += places
    is_bad = np.array(order) < len(bad)
    factors = {}
    for name, parts in highest.items():
        areas = auroc(torch.cat(parts).numpy(), is_bad)
        factors[name] = torch.from_numpy(1 - 2 * np.clip(areas - 0.5, 0, None)).float()
    return factors


@contextmanager
def scaled(loaded: LoadedModel, factors: Values, place: Place = "linears") -> Iterator[None]:
    """Within the block every unit of these modules is multiplied by its factor."""
    ready = {name: factor.to(loaded.device, loaded.dtype) for name, factor in factors.items()}
    with _edited(_modules(loaded, place), lambda name, values: values * ready[name], into=place == "neurons"):
        yield


@contextmanager
def observed(loaded: LoadedModel, place: Place, see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Within the block every module's values are shown as they pass: its name, and (…, width)."""
    with _edited(_modules(loaded, place), see, into=place == "neurons"):
        yield


@torch.no_grad()
def mean_shifts(loaded: LoadedModel, bad: Samples, good: Samples) -> Values:
    """mean(good) − mean(bad) of what enters each MLP, normalised; a sample's value is the mean over its tokens.

    Mean-AcT (Rodriguez et al. 2024, arXiv 2410.23054), for `shifted`, whose strength is its λ: 0 leaves the model as it
    is, 1 moves the mean of the bad samples to that of the good ones.

    Estimated in the order of the layers, as the paper does: at a layer the bad samples have been shifted at all layers
    before, the good ones have not. Here that is one pass over all samples in one batch.
    """
    batch = Batch.of([*bad, *good], loaded.device)
    real = _real(batch)[..., None]
    shifts: Values = {}

    def shift(name: str, values: Tensor) -> Tensor:
        by_row = values.reshape(*real.shape[:2], -1).clone()
        means = (by_row.float() * real).sum(1) / batch.lengths[:, None]
        shifts[name] = means[len(bad) :].mean(0) - means[: len(bad)].mean(0)
        by_row[: len(bad)] += shifts[name].to(values.dtype)
        return by_row.view(values.shape)

    with _edited(_norms(loaded), shift):
        loaded.decoder(input_ids=batch.input_ids, use_cache=False)
    return shifts


@contextmanager
def shifted(loaded: LoadedModel, shifts: Values, strength: float = 1.0) -> Iterator[None]:
    """Within the block `strength` times these numbers are added to what enters each MLP, at every token."""
    ready = {name: (strength * shift).to(loaded.device, loaded.dtype) for name, shift in shifts.items()}
    with _edited(_norms(loaded), lambda name, values: values + ready[name]):
        yield


def system_prompt(loaded: LoadedModel, instruction: str, samples: Samples, *, raw: bool = False) -> list[list[int]]:
    """The samples with an instruction before them.

    The instruction is the system message of the tokenizer's chat template, and the sample the opening of the answer;
    if `raw` is set, it is a paragraph of its own before the sample.
    """
    tokenizer = loaded.tokenizer
    text = f"{instruction}\n\n"
    if not raw:
        message = [{"role": "system", "content": instruction}]
        text = str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
    before = list(tokenizer(text, add_special_tokens=raw, verbose=False)["input_ids"])
    begun = tokenizer.bos_token_id
    return [[*before, *(each[1:] if each[0] == begun else each)] for each in samples]


def _real(batch: Batch) -> Tensor:
    """Which tokens are no padding: bool (rows, tokens)."""
    return torch.arange(batch.input_ids.shape[1], device=batch.lengths.device) < batch.lengths[:, None]


def _modules(loaded: LoadedModel, place: Place) -> dict[str, nn.Module]:
    if place not in get_args(Place):
        raise ValueError(f"there is no place {place!r}; there is: {', '.join(get_args(Place))}")
    modules: dict[str, nn.Module] = {}
    for block in loaded.blocks:
        for name, module in (("gate", block.gate), ("up", block.up), ("down", block.down_proj)):
            if module is not None and (place == "linears" or name == "down"):
                modules[f"{block.prefix}.{name}"] = module
    return modules


def _norms(loaded: LoadedModel) -> dict[str, nn.Module]:
    """The norm before each MLP: the second of a layer."""
    return {f"{block.prefix}.norm": block.norms[1] for block in loaded.blocks}


@contextmanager
def _edited(
    modules: Mapping[str, nn.Module], edit: Callable[[str, Tensor], Any], *, into: bool = False
) -> Iterator[None]:
    """Within the block each module's output, or what goes `into` it, is what `edit` makes of it; None leaves it."""
    with ExitStack() as stack:
        for name, module in modules.items():

            def before(module: nn.Module, inputs: tuple[Any, ...], name: str = name) -> Any:
                changed = edit(name, inputs[0])
                return None if changed is None else (changed, *inputs[1:])

            def after(module: nn.Module, inputs: tuple[Any, ...], output: Tensor, name: str = name) -> Any:
                return edit(name, output)

            handle = module.register_forward_pre_hook(before) if into else module.register_forward_hook(after)
            stack.callback(handle.remove)
        yield
