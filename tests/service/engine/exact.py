"""A program: one engine inside this process answers a fixed load, and writes the tokens and logprobs as JSON.

    python -m tests.service.engine.exact SPEC.json OUT.jsonl    a line in OUT for each engine of the list in SPEC

A gated engine answers each prompt under each mask and under none, all mixed. A plain one, on a checkpoint edited by
hand, gets the very same requests in the same order; a cache salt keeps their KV blocks apart where masks would. So both
engines run the same schedule, and the rows of a mask must be the same to the last bit, in any dtype.
"""

from __future__ import annotations

import gc
import json
import random
import sys
from pathlib import Path

import numpy as np

SEED = 11


def prompts(vocabulary: int, count: int) -> list[list[int]]:
    """Of 4 to 70 tokens; every third begins like the one before, so that a prefix could be shared."""
    rng = np.random.default_rng(SEED)
    made: list[list[int]] = []
    for i in range(count):
        tokens = rng.integers(3, vocabulary, int(rng.integers(4, 70))).tolist()
        made.append(made[-1][:32] + tokens if i % 3 == 2 else tokens)
    return made


def run(spec: dict, emit) -> None:
    """Start one engine and answer the load."""
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    masks, options = spec["masks"], dict(spec.get("options", {}))
    if masks:
        options |= {
            "enable_lora": True,
            "max_lora_rank": 1,
            "max_loras": spec.get("slots", 4),
            "worker_extension_cls": "service.engine.worker_extension.MaskControl",
            "additional_config": {"excise": {"max_weight_rank": spec.get("max_weight_rank", 64)}},
        }
    llm = LLM(
        model=spec["model"],
        skip_tokenizer_init=True,
        dtype=spec.get("dtype", "float32"),
        max_model_len=128,
        seed=0,
        disable_log_stats=False,
        **options,
    )
    requests: list[LoRARequest | None] = [None]
    for number, path in enumerate(masks, start=1):
        (report, *_) = reports = llm.collective_rpc("excise_admit", args=(number, path))
        assert "error" not in report, report
        requests.append(LoRARequest(f"mask-{number}", number, path))
        emit(
            {
                "admitted": path,
                "inputs": sum(r["inputs"] for r in reports),
                "weights": sum(r["weights"] for r in reports),
            }
        )
    asked = prompts(spec["vocabulary"], spec["prompts"])
    jobs = [(mask, i) for mask in range(spec["variants"]) for i in range(len(asked))]
    random.Random(0).shuffle(jobs)
    greedy = SamplingParams(temperature=0, max_tokens=24, logprobs=3, ignore_eos=True, detokenize=False)
    # Without a seed of its own: vLLM on a CPU cannot give one to a prompt that comes in chunks.
    drawn = SamplingParams(temperature=1, n=2, max_tokens=12, logprobs=1, ignore_eos=True, detokenize=False)
    for way, parameters in (("greedy", greedy), ("again", greedy), ("n2", drawn)):
        outputs = llm.generate(
            [{"prompt_token_ids": asked[i], **({} if masks else {"cache_salt": f"{mask}"})} for mask, i in jobs],
            parameters,
            lora_request=[requests[mask] for mask, _ in jobs] if masks else None,
            use_tqdm=False,
        )
        for (mask, i), output in zip(jobs, outputs, strict=True):
            said = [
                [list(choice.token_ids), [sorted((t, p.logprob) for t, p in step.items()) for step in choice.logprobs]]
                for choice in output.outputs
            ]
            emit({"mask": mask, "prompt": i, "way": way, "said": said})
    counts = {
        m.name: m.value for m in llm.get_metrics() if m.name in ("vllm:num_preemptions", "vllm:prefix_cache_hits")
    }
    mode = llm.llm_engine.vllm_config.compilation_config.mode
    residency = llm.collective_rpc("excise_residency") if masks else []
    emit({"counts": counts, "compiled": int(mode), "residency": residency})
    del llm
    gc.collect()


def run_all(specification: str, out: str) -> None:
    """Run every engine of the specification, one after the other; write each one's results to ``out``."""
    specs = json.loads(Path(specification).read_text())
    if any(spec.get("options", {}).get("tensor_parallel_size", 1) > 1 for spec in specs):
        from tests.engine_imports import fork_engines

        fork_engines()  # the workers of the ranks
    for spec in specs:
        results: list[dict] = []
        run(spec, results.append)
        with Path(out).open("a") as file:
            file.write(json.dumps(results) + "\n")


if __name__ == "__main__":
    run_all(*sys.argv[1:])
