"""Residency: makes a registered mask usable in the engine, and proves that it is, before a request may name it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.lora.request import LoRARequest

from masks import Mask
from service import metrics
from service.engine import adapters
from service.errors import UnavailableError
from service.routing import Version


class Residency:
    """Hands masks to vLLM as adapters named ``MODEL:name@version``, in folders named by digest under ``folder``.

    vLLM keys its KV cache by an adapter's name and path: versions are never reused and the path is the digest, so two
    masks never share a block. ``capacity`` of them are in the gates at one time, the least recently used makes room;
    vLLM keeps the others in memory, or reads them again from ``folder``.
    """

    def __init__(
        self,
        engine_client: Any,
        models: OpenAIServingModels,
        folder: Path,
        model: str,
        capacity: int,
        load: Callable[[str], Mask],
    ) -> None:
        self._engine = engine_client
        self._models = models
        self._folder = folder
        self._model = model
        self._capacity = capacity
        self._load = load
        self._lock = asyncio.Lock()

    async def check_health(self) -> None:
        """Raise if the engine is dead."""
        await self._engine.check_health()

    async def ensure(self, version: Version) -> str:
        """Make the mask usable; return its adapter's name. Raises ``UnavailableError``: then nothing was applied.

        The name is known to vLLM's handlers only once every worker has shown that its gates cut what they should.
        """
        name = f"{self._model}:{version.label}"
        if self._is_ready(name):
            return name
        async with self._lock:
            if not self._is_ready(name):
                try:
                    self._models.lora_requests[name] = await self._prove(name, version)
                except UnavailableError:
                    raise
                except Exception as error:
                    raise UnavailableError(
                        f"mask {version.label} could not be made resident: {error}", code="mask_not_resident"
                    ) from error
                metrics.RESIDENT.set(min(len(self._models.lora_requests), self._capacity))
        return name

    def _is_ready(self, name: str) -> bool:
        """Proven, and its folder still there: the engine would die if it could not read an evicted adapter again."""
        request = self._models.lora_requests.get(name)
        return request is not None and Path(request.lora_path).is_dir()

    async def _prove(self, name: str, version: Version) -> LoRARequest:
        mask = await asyncio.to_thread(self._load, version.digest)
        path = await asyncio.to_thread(adapters.write, mask, self._folder)
        known = self._models.lora_requests.get(name)
        number = known.lora_int_id if known else self._models.lora_id_counter.inc(1)
        cuts = await self._engine.collective_rpc("excise_load", args=(name, number, str(path)))
        expected = adapters.cut_inputs(mask)
        if sum(cuts) != expected:
            raise UnavailableError(
                f"mask {version.label} should cut {expected} inputs, but the gates of the engine cut {cuts}; "
                "it is not served",
                code="mask_not_resident",
            )
        return LoRARequest(lora_name=name, lora_int_id=number, lora_path=str(path))
