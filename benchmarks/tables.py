"""Bytes of the gate tables of a real engine, beside those that its geometry tells; prints one JSON line.

    python -m benchmarks.tables MODEL [--slots 16] [--dtype bfloat16]

A gated layer holds a row for each resident mask and one of ones: (slots + 1) × inputs in the model's dtype. Inputs are
the neurons of a layer and the channels of its heads.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any, cast

import torch

import masks
from benchmarks import random_llama
from masks import Geometry

LLAMA_3_8B = Geometry(layers=32, neurons=14336, heads=32, head_dim=128, hidden=4096)
LLAMA_3_8B_PARAMETERS = 8_030_261_248


def tables(geometry: Geometry, slots: int, dtype: str) -> int:
    """Bytes of the gate tables of a model with gates for neurons and heads in every layer, on one rank."""
    inputs = geometry.neurons + geometry.heads * geometry.head_dim
    return geometry.layers * (slots + 1) * inputs * int(getattr(torch, dtype).itemsize)


def held(worker: Any) -> int:
    """Bytes of the gate tables in an engine's worker."""
    from service.engine.gated_layers import EditedMethod

    methods = [getattr(layer, "quant_method", None) for layer in worker.model_runner.model.modules()]
    gates = [method.gates for method in methods if isinstance(method, EditedMethod)]
    return sum(gate.nbytes for gate in gates if gate is not None)


def measured(model: Path, slots: int, dtype: str) -> int:
    """Bytes of the gate tables of an engine started in this process."""
    os.environ |= {"VLLM_PLUGINS": "excise", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    from vllm import LLM

    engine = LLM(
        model=str(model),
        dtype=cast(Any, dtype),
        enforce_eager=True,
        skip_tokenizer_init=True,
        enable_lora=True,
        max_lora_rank=1,
        max_loras=slots,
        worker_extension_cls="service.engine.worker_extension.MaskControl",
        additional_config={"excise": {"max_weight_rank": 64}},
    )
    return sum(engine.collective_rpc(held))


def main() -> None:
    """Start an engine and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM prints to the standard output
    tables_bytes = measured(options.model, options.slots, options.dtype)
    weights = random_llama.bytes_of(options.model)
    larger = tables(LLAMA_3_8B, options.slots, "bfloat16")
    result = {
        "tables_bytes": tables_bytes,
        "by_geometry_bytes": tables(masks.describe(options.model).geometry, options.slots, options.dtype),
        "weights_bytes": weights,
        "share": round(tables_bytes / weights, 5),
        "slots": options.slots,
        "llama_3_8b_by_geometry": {"tables_bytes": larger, "share": round(larger / LLAMA_3_8B_PARAMETERS / 2, 5)},
    }
    out.write(json.dumps(result) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
