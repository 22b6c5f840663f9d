"""A walk through a model, block by block, with the hidden states of all windows carried from one to the next.

At a time there are in memory, beside the model: the hidden states (windows · tokens · width, in the model's type, each
block's output written over its input), and of one block a statistic of what enters each of its matrices. Matrices that
read the same tensor share one.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from correction.attribution.criteria.scored_modules import ScoredModule
from correction.compression.calibration import Calibration
from correction.compression.matrices import linear_matrices
from correction.instances import frozen_parameters
from correction.models import LoadedModel
from correction.progress import Progress, silent


class Statistic(Protocol):
    """What a method must know of the inputs of a matrix."""

    def read(self, x: Tensor) -> None:
        """Add a batch: (rows, tokens, channels), or (rows · tokens, channels)."""
        ...


S = TypeVar("S", bound=Statistic)


class _ReachedError(Exception):
    """The first block was reached: what enters it is known, and nothing more is wanted."""


def walk(
    loaded: LoadedModel,
    calibration: Calibration,
    make: Callable[[int, torch.device], S],
    prune: Callable[[list[tuple[ScoredModule, S]]], None],
    *,
    tokens: int = 4096,
    progress: Progress = silent,
) -> None:
    """Take the windows through the model: each block is read, pruned, and run again to feed the next one.

    Args:
        loaded: The model.
        calibration: The windows.
        make: Makes a statistic of zeros for a number of channels.
        prune: Changes the weights of one block in place, given its matrices and the statistics of what entered them.
        tokens: Tokens of a batch, padding included: it changes time and memory, not the result.
        progress: Called after every batch.
    """
    with frozen_parameters(loaded.model), torch.no_grad():
        rows = max(1, tokens // calibration.ids.shape[1])
        states, rest = _entering(loaded, calibration.ids, rows)
        for number, block in enumerate(loaded.blocks, 1):
            places = linear_matrices(loaded, block.index)
            with _reading(places, make) as statistics:
                for batch in states.split(rows):
                    _output(block.layer, batch, rest[len(batch)])
            prune([(place, statistics[place.name]) for place in places])
            del statistics
            if number < len(loaded.blocks):
                for batch in states.split(rows):
                    batch.copy_(_output(block.layer, batch, rest[len(batch)]))
            progress("blocks", number, len(loaded.blocks))


def _entering(loaded: LoadedModel, ids: Tensor, rows: int) -> tuple[Tensor, dict[int, dict[str, Any]]]:
    """The hidden states before the first block, and by the rows of a batch the rest of what a block is called with.

    All windows have one length, so that positions and attention mask of one batch are those of any other of its size.
    """
    width = int(loaded.model.config.hidden_size)
    states = torch.empty(*ids.shape, width, dtype=loaded.dtype, device=loaded.device)
    done = 0
    rest: dict[int, dict[str, Any]] = {}

    def stop(module: nn.Module, inputs: tuple[Any, ...], given: dict[str, Any]) -> None:
        named = dict(given)
        entering = inputs[0] if inputs else named.pop("hidden_states")
        states[done : done + len(entering)] = entering
        rest.setdefault(len(entering), named)
        raise _ReachedError

    handle = loaded.blocks[0].layer.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        for batch in ids.split(rows):
            try:
                loaded.decoder(input_ids=batch.to(loaded.device), use_cache=False)
            except _ReachedError:
                done += len(batch)
    finally:
        handle.remove()
    return states, rest


def _output(layer: nn.Module, states: Tensor, rest: Mapping[str, Any]) -> Tensor:
    output = layer(states, **rest)
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def _reading(places: list[ScoredModule], make: Callable[[int, torch.device], S]) -> Iterator[dict[str, S]]:
    """A statistic of each matrix, by its name, of what enters it within the block."""
    statistics: dict[str, S] = {}
    last: tuple[Tensor, S] | None = None

    def hook(place: ScoredModule) -> Callable[..., None]:
        def pre_hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            nonlocal last
            x = inputs[0]
            if last is not None and last[0] is x:  # q, k and v read one tensor, gate and up another
                statistics[place.name] = last[1]
                return
            if place.name not in statistics:
                statistics[place.name] = make(x.shape[-1], x.device)
            statistics[place.name].read(x)
            last = x, statistics[place.name]

        return pre_hook

    with ExitStack() as stack:
        for place in places:
            stack.callback(place.module.register_forward_pre_hook(hook(place)).remove)
        yield statistics
        last = None
