"""The one place where a server is put together, and the service of this process."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import masks
from behaviours import load_scorer
from edits.places import cuts_packed
from service import logs
from service.errors import EngineDiedError
from service.load_time_masks import choose_load_time_mask
from service.service import Service
from service.settings import Settings
from service.storage.database import Database
from service.storage.mask_files import MaskFiles
from service.storage.registry import Registry

_log = logging.getLogger(__name__)

_current: Service | None = None


def current() -> Service:
    """The service of this process: vLLM makes our plug-in and middleware itself, without arguments."""
    if _current is None:
        raise RuntimeError("no service in this process: start the server with `excise serve`")
    return _current


def serve(model: str, settings: Settings, given: Sequence[str], vllm_options: list[str]) -> None:
    """Run the server until it is stopped. Blocks.

    Args:
        model: folder or id of the model.
        settings: of the service.
        given: the masks to load with, files or names.
        vllm_options: of vLLM's command line.

    Raises:
        SettingsError, DatabaseError, StoreError, ServiceError: the server cannot start.
        EngineDiedError: the engine ended first.
    """
    global _current
    logs.begin(settings.log_format)
    if settings.scorer != "none":
        load_scorer(settings.scorer, patience=30)  # a wrong name is an error now, not when the first response waits
    from service.engine import server  # imports vllm: slow, and not needed to say that a setting is wrong

    launch = server.prepare(model, vllm_options)
    base = masks.describe(launch.folder, id=launch.name)
    server.check_free(launch)
    files = MaskFiles(settings.store)
    database = Database(settings.database_url)
    registry = Registry(
        files,
        database,
        base,
        masks.parameters(launch.folder),
        allow_other_base=settings.allow_other_base,
        max_masks=settings.max_masks,
    )
    service = Service(settings, database, registry, launch.name, gated=server.can_gate(base.architecture))
    capabilities = service.capabilities
    file = None
    if given:
        capabilities.baked, file = choose_load_time_mask(service, given)
    if file:
        # A packed matrix has no columns to set to zero as it streams in; its gates cut them, for every request.
        capabilities.gated = capabilities.gated and cuts_packed(masks.load(file), registry.parameters)
    elif not capabilities.gated:
        _log.warning("%s has no gates: masks can only be baked in with --mask", base.architecture)
    service.client_priority = launch.options.scheduling_policy == "priority"
    service.ending.drain = launch.options.shutdown_timeout
    service.cross_origin = server.cross_origin(launch)
    _current = service
    server.run(launch, settings, mask=None if capabilities.gated else file, gated=capabilities.gated)
    if service.engine_died():
        raise EngineDiedError()
