"""Connects a running engine to the service: proves that the gates are there, then observes what it answers."""

from __future__ import annotations

from typing import Any

from service import logs
from service.engine import vllm_names
from service.engine.observer import observe
from service.engine.residency import Residency
from service.service import Service


class GatesMissingError(RuntimeError):
    """The engine runs without gates: masks would do nothing. The server does not start."""


async def connect(service: Service, engine_client: Any, models: Any) -> None:
    """Check the gates and hand the engine over. `models` is vLLM's `OpenAIServingModels`.

    Source: vllm/plugins/endpoint_plugins/interface.py, `init_state`.

    Raises:
        GatesMissingError: a worker has no gates, or was loaded with other masks.
    """
    capabilities = service.capabilities
    reports = await engine_client.collective_rpc("excise_start")
    baked = capabilities.baked.digest if capabilities.baked and not capabilities.gated else ""
    if (digests := {report["at_load"] for report in reports}) != {baked}:
        raise GatesMissingError(f"the workers were loaded with the masks {digests}, not with {baked or 'none'}")
    if capabilities.gated:
        counts = [report["gated"] for report in reports]
        if not counts or min(counts) == 0:
            raise GatesMissingError(
                f"gated layers by worker: {counts}; is Excise installed for the Python that runs vLLM "
                "(entry point group vllm.general_plugins)?"
            )
        capabilities.fixed_weights = next(
            (report["fixed_weights"] for report in reports if report["fixed_weights"]), ""
        )
    residency = Residency(engine_client, models, service.policy.model, service.registry.load, service.registry.path)
    observe(
        engine_client,
        service.intake.put,
        lambda request: residency.admitted[request.lora_int_id] if request else baked,
        service.labels.of,
    )
    vllm_names.without_adapter_labels(engine_client)
    logs.show()  # again: vLLM's imports are over
    await service.attach(residency)
