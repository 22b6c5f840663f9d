"""Changing one instance for a while, its class and every other instance untouched."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_ABSENT = object()


@contextmanager
def replaced_attribute(instance: object, name: str, value: Any) -> Iterator[None]:
    """Give the instance an attribute of its own; take it away, or put the former one back, however the block ends."""
    attributes = instance.__dict__
    before = attributes.get(name, _ABSENT)
    attributes[name] = value
    try:
        yield
    finally:
        if before is _ABSENT:
            del attributes[name]
        else:
            attributes[name] = before


@contextmanager
def frozen_parameters(model: nn.Module) -> Iterator[None]:
    """No parameter asks for a gradient and every module is in evaluation mode, while gradients are recorded."""
    parameters = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modules = [(module, module.training) for module in model.modules()]
    try:
        for parameter, _ in parameters:
            parameter.requires_grad_(False)
        for module, _ in modules:
            module.training = False
        with torch.enable_grad():
            yield
    finally:
        for parameter, asked in parameters:
            parameter.requires_grad_(asked)
        for module, training in modules:
            module.training = training
