"""Several processes, each with its share of the samples: `torchrun … -m excise correct …`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that `torchrun` started with this one, if it did, until the block ends."""
    if "RANK" not in os.environ or distributed.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Which of the processes this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def processes() -> int:
    """How many work together; 1 where this one is alone."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def add_up(values: Tensor) -> None:
    """Replace the values, in every process, by their sum over the processes."""
    if processes() > 1:
        distributed.all_reduce(values)
