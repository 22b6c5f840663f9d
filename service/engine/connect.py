"""Connects a running engine to the service: proves that the gates are there, then observes what it answers."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

from service.bootstrap import Service
from service.engine.observer import observe
from service.engine.residency import Residency


class GatesMissingError(RuntimeError):
    """The engine runs without gates: masks would do nothing. The server does not start."""


async def connect(service: Service, engine_client: Any, models: Any) -> None:
    """Check the gates and hand the engine over. ``models`` is vLLM's ``OpenAIServingModels``.

    Raises ``GatesMissingError``. Source: vllm/plugins/endpoint_plugins/interface.py, ``init_state``.
    """
    if service.gated:
        counts = await engine_client.collective_rpc("excise_gates")
        if not counts or min(counts) == 0:
            raise GatesMissingError(
                f"gated layers by worker: {counts}; is Excise installed for the Python that runs vLLM "
                "(entry point group vllm.general_plugins)?"
            )
    put = service.scoring.put if service.scoring else lambda response: None
    observe(engine_client, put, service.baked.digest if service.baked else "")
    folder = Path(tempfile.mkdtemp(prefix="excise-adapters-"))  # of this process alone, so never stale
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    capacity = service.settings.max_resident_masks
    service.attach(Residency(engine_client, models, folder, service.policy.model, capacity, service.registry.load))
