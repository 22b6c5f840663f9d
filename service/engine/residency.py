"""Residency: makes a registered mask known to the engine, and proves that it is, before a request may name it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from masks import Mask
from service import metrics
from service.engine import vllm_names
from service.engine.judge import judge
from service.errors import EngineDiedError, UnavailableError
from service.routing.policy import MaskVersion

_log = logging.getLogger(__name__)

_TRY_AGAIN = 5.0
"""Seconds for which a mask that could not be made resident is refused without trying again."""
_TO_END = 2.0
"""Seconds that the engine's processes have to end, before they are killed; nobody waits for anything of theirs then."""


class NotAdmittedError(RuntimeError):
    """The engine's workers do not have the mask that they should have."""


class Residency:
    """Hands masks to the engine as adapters named `MODEL:name@version` whose path is the mask file, named by digest.

    vLLM keys its KV cache by an adapter's name and path: versions are never reused and the path holds the digest, so
    two masks never share a block. Which of the known masks are in the gates the engine decides (`resident_masks`).
    """

    def __init__(
        self,
        engine_client: Any,
        models: Any,
        model: str,
        load: Callable[[str], Mask],
        path: Callable[[str], Path],
    ) -> None:
        self._engine = engine_client
        self._models = models
        self._model = model
        self._load = load
        self._path = path
        self._lock = asyncio.Lock()
        self._evictions = 0
        self._failed: dict[str, tuple[float, str]] = {}
        """Digest → until when it is refused without another try, and why."""
        self.admitted: dict[int, str] = {}
        """Adapter's number → digest of the mask that the workers report under it."""
        self._stopped = self._died = False
        self._patience = _TO_END
        vllm_names.before_shutdown(engine_client, self._ending)

    def expect_end(self, *, at_once: bool = False) -> None:
        """The engine will be stopped, and has not died then.

        Args:
            at_once: without a second to do it well.
        """
        self._died = self.dead
        self._stopped = True
        self._patience = 0.0 if at_once else self._patience

    def _ending(self) -> float:
        if not self._stopped:
            self.expect_end()
        return self._patience

    @property
    def dead(self) -> bool:
        """Whether the engine has ended by itself and will not answer again."""
        return self._died or (not self._stopped and bool(self._engine.errored))

    async def check_health(self) -> None:
        """Raise if the engine is dead."""
        await self._engine.check_health()

    async def judge(self, context: Sequence[int], said: Sequence[int]) -> float:
        """Mean log-probability, nats a token, that the uncorrected model gives to `said` after `context`."""
        return await judge(self._engine, context, said)

    async def ensure(self, version: MaskVersion, *, retry: bool = False) -> str:
        """Make the mask usable; return its adapter's name.

        A refusal holds for some seconds, unless `retry` says that something has changed. The name is known to vLLM's
        handlers only once the workers have reported that, together, they cut all that it cuts.

        Raises:
            UnavailableError: the workers did not take the mask; nothing was applied.
        """
        name = f"{self._model}:{version.label}"
        if name in self._models.lora_requests:
            return name
        async with self._lock:
            if name not in self._models.lora_requests:
                until, reason = self._failed.get(version.digest, (0.0, ""))
                if not retry and time.monotonic() < until:
                    raise _refused(version, reason)
                began = time.monotonic()
                try:
                    with metrics.LOAD_SECONDS.time():
                        await self._admit(name, version)
                except Exception as error:
                    if self.dead:
                        raise EngineDiedError() from error
                    self._failed[version.digest] = time.monotonic() + _TRY_AGAIN, str(error)
                    raise _refused(version, str(error)) from error
                taken = time.monotonic() - began
                _log.info("mask %s (digest %s) is known to the engine, %.2f s", version.label, version.digest, taken)
        return name

    async def _admit(self, name: str, version: MaskVersion) -> None:
        mask = await asyncio.to_thread(self._load, version.digest)
        number, path = vllm_names.next_number(self._models), str(self._path(version.digest).absolute())
        reports = await self._engine.collective_rpc("excise_admit", args=(number, path))
        if reason := _difference(mask, reports):
            await self._engine.collective_rpc("excise_forget", args=(number,))
            raise NotAdmittedError(reason)
        self.admitted[number] = reports[0]["digest"]
        vllm_names.learn(self._models, name, number, path)

    async def measure(self) -> None:
        """Bring the metrics of residency up to date."""
        reports = await self._engine.collective_rpc("excise_residency")
        metrics.RESIDENT.set(max(report["resident"] for report in reports))
        evictions = max(report["evictions"] for report in reports)
        metrics.EVICTIONS.inc(evictions - self._evictions)
        self._evictions = evictions


def _difference(mask: Mask, reports: list[dict[str, Any]]) -> str | None:
    """Why what the workers report of a mask is not the mask; None where it is."""
    for rank, report in enumerate(reports):
        if "error" in report:
            return f"worker {rank}: {report['error']}"
        if report["digest"] != mask.digest:
            return f"worker {rank} read {report['digest'][:12]} in its place"
    counts = mask.counts
    inputs = counts["neurons"] + counts["heads"] * mask.meta.base.geometry.head_dim
    for kind, expected in (("inputs", inputs), ("weights", counts["weights"])):
        cut = [report[kind] for report in reports]
        if sum(cut) != expected:
            return f"it cuts {expected} {kind}, the engine's workers {cut}"
    return None


def _refused(version: MaskVersion, reason: str) -> UnavailableError:
    return UnavailableError(
        f"mask {version.label} could not be made resident, and is not served: {reason}", code="mask_not_resident"
    )
