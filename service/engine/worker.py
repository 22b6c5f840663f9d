"""What the API process may ask of every engine worker (vLLM's ``worker_extension_cls``): is the gate really there?

vLLM logs a plug-in that fails to load and goes on without it. A mask would then do nothing, in silence. So the service
asks each worker at start, and again as it makes a mask resident.
"""

from __future__ import annotations

from typing import Any

from vllm.lora.request import LoRARequest

from service.engine.gates import GatedRowParallelLinear


class GateInspection:
    """Mixed into vLLM's worker class; reached by ``engine_client.collective_rpc``."""

    model_runner: Any

    def excise_gates(self) -> int:
        """Count the gated layers of this rank."""
        return len(self._gated_layers())

    def excise_load(self, name: str, number: int, path: str) -> int:
        """Load an adapter into the gates and count the inputs that it cuts on this rank.

        One call, so that nothing can take its place in between: calls run between two steps of the engine.
        """
        self.model_runner.add_lora(LoRARequest(lora_name=name, lora_int_id=number, lora_path=path))
        slot = self.model_runner.lora_manager._adapter_manager.lora_index_to_id.index(number)
        return sum(int((layer.gates[slot] == 0).sum()) for layer in self._gated_layers())

    def _gated_layers(self) -> list[GatedRowParallelLinear]:
        return [layer for layer in self.model_runner.model.modules() if isinstance(layer, GatedRowParallelLinear)]
