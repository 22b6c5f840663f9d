"""Several processes, each with its share of the samples: `torchrun … -m excise correct …`.

Each has the whole model, or, once `shard_model` was called, a part of every decoder layer.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from correction.errors import ModelError
from correction.models import LoadedModel


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that `torchrun` started with this one, if it did, until the block ends."""
    if "RANK" not in os.environ or distributed.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Which of the processes this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """How many work together; 1 where this one is alone."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def all_reduce_sum(values: Tensor) -> None:
    """Replace the values, in every process, by their sum over the processes."""
    if world_size() > 1:
        distributed.all_reduce(values)


def all_reduce_max(count: int) -> int:
    """The largest count that any of the processes gives."""
    if world_size() == 1:
        return count
    largest = torch.tensor(count)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return int(largest)


def shard_model(loaded: LoadedModel) -> None:
    """Leave a part of every decoder layer in each process, in place, for good (PyTorch's FSDP2).

    A layer is put together when it is about to run, forwards or backwards, and taken apart after it; its parameters
    are split by rows (dim 0) meanwhile. Embeddings, final norm and output head stay whole in every process: they are
    called on their own, too. All that is not on the accelerator goes there, a layer at a time, so a model that does not
    fit is to be loaded with `device="cpu"`.

    From then on all processes must run the same passes in the same order. No parameter asks for a gradient any more.

    Raises:
        ModelError: No processes were joined.
    """
    if not distributed.is_initialized():
        raise ModelError(
            "there are no processes to share the model: call shard_model within process_group(), run by torchrun"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    mesh = init_device_mesh(device, (world_size(),))
    model: nn.Module = loaded.model
    model.requires_grad_(False)
    for block in loaded.blocks:
        fully_shard(block.layer, mesh=mesh, reshard_after_forward=True)
    model.to(device)
    # The decoder holds none itself, but as their common root it lets one layer arrive while another runs.
    fully_shard(loaded.decoder, mesh=mesh, ignored_params=set(model.parameters()))


def full_tensor(tensor: Tensor) -> Tensor:
    """The tensor, put together if it is sharded; then all processes must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_shard(parameter: nn.Parameter) -> tuple[Tensor, int]:
    """What of a parameter lies in this process, flat and to be written to, and the flat index of its first value."""
    values = parameter.detach()
    if not isinstance(values, DTensor):
        return values.view(-1), 0
    _, offset = compute_local_shape_and_global_offset(values.shape, values.device_mesh, values.placements)
    return values.to_local().view(-1), offset[0] * values.shape[1:].numel()
