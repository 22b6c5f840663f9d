"""What a server's processes import, and how they come about in tests: forked, where vLLM has them spawned.

Each of vLLM's three processes imports for 5 to 15 seconds. To fork them is what vLLM does by itself elsewhere than on a
CPU. What a spawned one is for, to set OpenMP's threads, OMP_NUM_THREADS does here.
"""

import multiprocessing
from multiprocessing.context import BaseContext

import vllm.entrypoints.openai.api_server
import vllm.model_executor.models.llama
import vllm.v1.engine.async_llm
import vllm.v1.engine.core
import vllm.v1.engine.utils
import vllm.v1.executor.multiproc_executor
import vllm.v1.worker.cpu_worker

import service.bootstrap
import service.engine.server
import service.engine.worker_extension  # noqa: F401


def _forking() -> BaseContext:
    return multiprocessing.get_context("fork")


def fork_engines() -> None:
    """From here on this process forks its engine, and that its worker."""
    for module in (vllm.v1.engine.utils, vllm.v1.executor.multiproc_executor):
        module.get_mp_context = _forking  # type: ignore[attr-defined]
