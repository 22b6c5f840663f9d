"""The `vllm.general_plugins` entry point: runs in every process of the engine, the workers included."""

from __future__ import annotations

import os

NAME = "excise"


def register() -> None:
    """Register the loader and install the gates, if this engine was started by Excise.

    Only then is `excise` named in `VLLM_PLUGINS`. A plain `vllm serve` where Excise is installed keeps its own
    LoRA layers.
    """
    if NAME not in os.environ.get("VLLM_PLUGINS", "").split(","):
        return
    from service import logs, watchdog
    from service.engine import loader, vllm_names
    from service.engine.resident_masks import ResidentMasks

    watchdog.end_with_parent()
    logs.show()
    vllm_names.install(ResidentMasks)
    loader.register()
