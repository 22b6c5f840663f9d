"""The names of vLLM that Excise stands on are there, and mean what they meant. A failure names what changed.

vLLM warns as it is imported, so the questions are asked in a process of its own, all at once.
"""

from __future__ import annotations

import importlib.metadata
import json

import numpy as np
import pytest
import safetensors.numpy

from service.engine import vllm_names
from service.errors import ConflictError
from tests.forked import forked_program
from tests.masks.samples import checkpoint, tensors

PROBE = """
import ast, inspect, json, sys
found = {}

def calls_on(module, attribute):
    tree = ast.parse(inspect.getsource(module))
    return sorted({
        node.attr for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == attribute
    })

from vllm.v1.worker import lora_model_runner_mixin as mixin, gpu_model_runner
found["manager made by"] = inspect.getsource(mixin.LoRAModelRunnerMixin.load_lora_model)
from vllm.v1.worker.gpu import model_runner as second_runner
from vllm.v1.worker.gpu.mm import lora as second_lora
runners = (mixin, gpu_model_runner, second_runner, second_lora)
found["manager is asked"] = sorted(set().union(*(calls_on(module, "lora_manager") for module in runners)))
found["second runner"] = second_runner.LoRAModelRunnerMixin is mixin.LoRAModelRunnerMixin
from vllm.config import CompilationConfig
graphs = ("cudagraph_specialize_lora", "max_cudagraph_capture_size")
found["graphs"] = [hasattr(CompilationConfig(), name) for name in graphs]
from vllm.v1 import cudagraph_dispatcher
found["dispatch"] = inspect.getsource(cudagraph_dispatcher)
from service.engine.resident_masks import ResidentMasks
found["resident masks answer"] = [name for name in dir(ResidentMasks) if not name.startswith("_")]
found["mapping"] = list(inspect.signature(mixin.LoRAMapping).parameters)

from vllm.model_executor.layers import linear
for name in ("RowParallelLinear", "ColumnParallelLinear", "ReplicatedLinear"):
    found[name] = inspect.getsource(getattr(linear, name).forward)
found["linear"] = {
    name: [a for a in wanted if a in inspect.getsource(getattr(linear, name).__init__)]
    for name, wanted in json.loads(sys.argv[1]).items()
}
from vllm.model_executor.layers.fusion import quant_activation
found["fusion"] = inspect.getsource(quant_activation.get_input_quant_key)

from vllm.entrypoints.serve.middleware.x_request_id import XRequestIdMiddleware
found["request ids"] = list(inspect.signature(XRequestIdMiddleware).parameters)
from vllm.tool_parsers import structural_tag_registry
found["strictness"] = inspect.getsource(structural_tag_registry.resolve_tool_strictness)
from vllm.v1.core import kv_cache_utils
found["kv key"] = inspect.getsource(kv_cache_utils._gen_lora_extra_hash_keys)
from vllm.v1.metrics import loggers
found["adapters' gauge"] = inspect.getsource(loggers.PrometheusStatLogger)
found["loggers"] = inspect.getsource(loggers.StatLoggerManager.__init__)
from vllm.outputs import RequestOutput
found["output"] = list(inspect.signature(RequestOutput.__init__).parameters)
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
found["models"] = inspect.getsource(OpenAIServingModels.__init__)
from vllm.lora.request import LoRARequest
request = LoRARequest(lora_name="n", lora_int_id=7, lora_path="p")
found["request"] = [request.lora_name, request.lora_int_id, request.lora_path]
from vllm.v1.engine.async_llm import AsyncLLM
found["engine"] = [name for name in ("errored", "shutdown", "generate", "collective_rpc", "check_health")
                   if hasattr(AsyncLLM, name)]
from vllm import envs
found["keeps alive"] = "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH" in envs.environment_variables
from vllm.platforms.cpu import CpuPlatform
found["cpu"] = inspect.getsource(CpuPlatform.check_and_update_config)
from torch._dynamo.aot_compile_types import BundledAOTAutogradSerializableCallable as Compiled
from vllm.compilation import decorators
found["loads"] = inspect.getsource(decorators._try_load_aot_compiled_fn)
found["complete"] = ["finalize_loading" in vars(Compiled)]
from vllm.entrypoints.launchers import launcher
found["http"] = inspect.getsource(launcher.serve_http)
before = CpuPlatform.check_and_update_config
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
found["weights"] = inspect.getsource(DefaultModelLoader._get_weights_iterator)
found["prepared"] = list(inspect.signature(DefaultModelLoader._prepare_weights).parameters)
from service.engine.loader import CheckpointLoader
found["ours"] = list(inspect.signature(CheckpointLoader._prepare_weights).parameters)
from vllm.transformers_utils import config
found["all headers"] = config.get_safetensors_params_metadata(sys.argv[2])
from service.engine import vllm_names
vllm_names.install(ResidentMasks); vllm_names.install(ResidentMasks)
found["headers"] = config.get_safetensors_params_metadata(sys.argv[2])
found["installed"] = [mixin.LRUCacheWorkerLoRAManager is ResidentMasks, CpuPlatform.check_and_update_config != before]
found["complete"].append("finalize_loading" in vars(Compiled))
print("FOUND" + json.dumps(found))
"""
LINEAR = {
    "LinearBase": ["tp_rank", "tp_size", "quant_method", "input_size", "output_size", "requires_unquantized_input"],
    "RowParallelLinear": ["input_size_per_partition"],
    "ColumnParallelLinear": ["output_size_per_partition"],
    "MergedColumnParallelLinear": ["output_sizes"],
    "QKVParallelLinear": ["num_heads", "num_kv_heads", "head_size", "v_head_size", "num_kv_head_replicas"],
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = checkpoint(tmp_path_factory.mktemp("model"))
    safetensors.numpy.save_file({"lm_head.weight": np.ones(3, np.int32)}, folder / "other.safetensors")
    run = forked_program(PROBE, json.dumps(LINEAR), str(folder))
    assert "FOUND" in run.stdout, run.stderr[-2000:]
    return json.loads(run.stdout.partition("FOUND")[2])


def test_the_runner_still_makes_its_lora_manager_by_the_name_that_is_replaced(found):
    assert "LRUCacheWorkerLoRAManager(" in found["manager made by"]
    assert "create_lora_manager(model, vllm_config)" in found["manager made by"]
    assert found["installed"] == [True, True]


def test_all_that_the_runner_asks_its_lora_manager_is_answered(found):
    assert set(found["manager is asked"]) <= set(found["resident masks answer"])
    assert {"set_active_adapters", "add_dummy_lora"} <= set(found["manager is asked"])


def test_both_runners_still_ask_it_through_the_same_mixin(found):
    assert found["second runner"]


def test_graphs_with_and_without_adapters_are_still_told_apart(found):
    """A graph captured without a masked token leaves the gates out; it must never run for a batch that has one."""
    assert found["graphs"] == [True, True]
    assert "cudagraph_specialize_lora" in found["dispatch"]
    assert "has_lora" in found["dispatch"]


def test_a_mapping_still_lists_the_adapter_of_each_token_first(found):
    assert found["mapping"][0] == "index_mapping"


def test_linear_layers_still_multiply_by_their_quant_method(found):
    assert "self.quant_method.apply(self, input_parallel, bias_)" in found["RowParallelLinear"]
    assert "self.quant_method.apply(self, input_, bias)" in found["ColumnParallelLinear"]
    assert "self.quant_method.apply(self, x, bias)" in found["ReplicatedLinear"]


def test_linear_layers_still_say_which_part_they_hold(found):
    assert found["linear"] == {**LINEAR, "LinearBase": found["linear"]["LinearBase"]}
    assert {"tp_rank", "quant_method", "input_size", "output_size"} <= set(found["linear"]["LinearBase"])


def test_a_layer_can_still_refuse_input_that_is_quantised_already(found):
    assert "requires_unquantized_input" in found["fusion"]


def test_kv_blocks_are_still_keyed_by_the_adapters_path(found):
    assert "lora_request.lora_path" in found["kv key"]


def test_outputs_still_carry_the_adapter_that_made_them(found):
    assert "lora_request" in found["output"]
    assert found["request"] == ["n", 7, "p"]


def test_handlers_still_look_adapters_up_by_name(found):
    assert "self.lora_requests" in found["models"]
    assert "self.lora_id_counter" in found["models"]


def test_the_engine_client_still_has_what_the_service_calls(found):
    assert found["engine"] == ["errored", "shutdown", "generate", "collective_rpc", "check_health"]
    assert found["keeps alive"]


def test_the_gauge_with_a_label_for_every_mix_of_adapters_can_still_be_taken_out(found):
    assert "if self.gauge_lora_info is not None:" in found["adapters' gauge"]
    assert "self.stat_loggers" in found["loggers"]


def test_request_ids_are_still_given_by_a_middleware_that_needs_only_the_application(found):
    assert found["request ids"] == ["app"]


def test_a_tool_that_says_nothing_of_strict_is_still_not_held_to_its_schema(found):
    assert "strict_level >= ToolStrictLevel.PARAMETER or _tool_is_strict(tool)" in found["strictness"]


def test_the_cpu_platform_still_switches_compilation_off_for_lora(found):
    """Once it does not, ``_keep_compilation`` can go."""
    assert "lora_config is not None" in found["cpu"]


def test_the_default_loader_still_asks_which_files_to_read(found):
    assert "self._prepare_weights(" in found["weights"]
    assert found["ours"] == found["prepared"]


def test_headers_of_the_checkpoint_alone_are_read(found):
    assert "lm_head.weight" in found["all headers"]
    assert found["headers"].keys() == tensors().keys()
    for name, info in found["headers"].items():
        assert info == {key: found["all headers"][name][key] for key in ("dtype", "shape")}


def test_vllm_still_asks_compiled_code_that_it_reads_for_a_method_that_pytorchs_lacks(found):
    """Once it does not, ``_load_compiled`` can go."""
    assert ".compiled_fn.finalize_loading(" in found["loads"]
    assert found["complete"] == [False, True]


def test_the_http_server_is_still_left_where_the_end_finds_it_and_our_signals_come_after_its_own(found):
    assert "app.state.server = server" in found["http"]
    serving, listening = found["http"].index("await server_task"), found["http"].index("loop.add_signal_handler(")
    assert listening < serving


@pytest.mark.parametrize(
    ("version", "good"),
    [("0.32.0", True), ("0.32.1.post1", True), ("0.32", True), ("0.33.0", False), ("0.3.20", False), ("1.0", False)],
)
def test_another_series_of_vllm_is_refused_with_the_one_to_install(monkeypatch, version, good):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    if good:
        vllm_names.check_version()
    else:
        with pytest.raises(ConflictError, match=r"vllm==0\.32\.\*"):
            vllm_names.check_version()


def test_a_missing_vllm_is_told(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(ConflictError, match="not installed"):
        vllm_names.check_version()
