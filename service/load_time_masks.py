"""Baking: which mask a server is loaded with, by the values of `--mask`."""

from __future__ import annotations

import functools
import logging
import operator
from collections.abc import Sequence
from pathlib import Path

import masks
from service.control import Control
from service.errors import ConflictError, NotFoundError
from service.routing.policy import MaskVersion, resolve

_log = logging.getLogger(__name__)


def choose_load_time_mask(control: Control, given: Sequence[str]) -> tuple[MaskVersion, Path]:
    """Choose the mask to load with: mask files, which are registered, or `name[@version]`. Returns it and its file.

    Several are baked in as their union, which is registered as a mask of its own.

    Raises:
        ServiceError: a mask does not fit, is broken or unknown.
    """
    registry = control.registry
    chosen = list(dict.fromkeys(_mask_of_option(control, one) for one in given))
    for version in chosen:
        if version.warnings:
            _log.warning("mask %s has warnings: %s", version.label, " ".join(version.warnings))
    baked = chosen[0]
    if len(chosen) > 1:
        union = functools.reduce(operator.or_, (registry.load(version.digest) for version in chosen))
        baked = _registered(control, masks.dumps(union))
    registry.load(baked.digest)  # raises if it is damaged, or made for another model
    return baked, registry.path(baked.digest)


def _mask_of_option(control: Control, given: str) -> MaskVersion:
    """One value of `--mask`."""
    if Path(given).is_file():
        return _registered(control, Path(given).read_bytes())
    try:
        version = resolve(control.policy, given).version
    except NotFoundError as error:
        raise NotFoundError(f"--mask {given}: no such file, and {error}", code=error.code) from error
    if version is None:
        raise ConflictError("--mask base cuts nothing; leave the option out", code="mask_not_usable")
    return version


def _registered(control: Control, data: bytes) -> MaskVersion:
    record, _ = control.registry.register(data)
    control.reload()
    version = resolve(control.policy, record.label).version
    assert version is not None  # noqa: S101 - it was registered just now
    return version
