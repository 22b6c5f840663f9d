"""What the API process may ask of every engine worker (vLLM's `worker_extension_cls`).

vLLM logs a plug-in that fails to load and goes on without it. A mask would then do nothing, in silence. So the service
asks each worker at start whether the gates are there, and as it admits a mask, what the gates will cut.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from service.engine.loader import CheckpointLoader
from service.engine.resident_masks import ResidentMasks


class MaskControl:
    """Mixed into vLLM's worker class; reached by `engine_client.collective_rpc`. Runs between two steps."""

    model_runner: Any

    def excise_start(self) -> dict[str, Any]:
        """What this rank has: gated layers, why it takes no masks of single weights, the digest of the mask at load."""
        masks = self._masks()
        return {
            "gated": masks.gated_layers if masks else 0,
            "fixed_weights": masks.fixed_weights if masks else "",
            "at_load": CheckpointLoader.applied,
        }

    def excise_admit(self, number: int, path: str) -> dict[str, Any]:
        """Read a mask file and make it known as `number`: what it cuts on this rank, or `error`."""
        masks = self._masks()
        if not masks:
            return {"error": "this worker has no gates"}
        try:
            return masks.admit(number, Path(path))
        except Exception as error:  # an exception would end the engine, and with it every other request
            masks.remove_adapter(number)
            return {"error": f"{type(error).__name__}: {error}"}

    def excise_forget(self, number: int) -> None:
        """Forget a mask that another worker could not admit."""
        if masks := self._masks():
            masks.remove_adapter(number)

    def excise_residency(self) -> dict[str, int]:
        """Masks in the gates now, and how many had to make room so far."""
        masks = self._masks()
        return {"resident": masks.resident, "evictions": masks.evictions} if masks else {"resident": 0, "evictions": 0}

    def _masks(self) -> ResidentMasks | None:
        manager = getattr(self.model_runner, "lora_manager", None)
        return manager if isinstance(manager, ResidentMasks) else None
