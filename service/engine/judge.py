"""The judge: how likely the uncorrected model finds a text, by the engine that answers, at the lowest priority."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from typing import Any

from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind, SamplingParams

PRIORITY = 2000
"""In vLLM's scheduler lower comes first: clients have 0, mirrored copies 1000."""


class NotJudgedError(RuntimeError):
    """The engine gave no log-probabilities."""


async def judge(engine_client: Any, context: Sequence[int], said: Sequence[int]) -> float:
    """Mean log-probability, nats a token, of `said` after `context`, without any mask.

    Token ids; both are cut to what the model's length holds, the context at its start. Source: `prompt_logprobs` of
    vllm/sampling_params.py; 0 asks for the prompt's own tokens alone.

    Raises:
        NotJudgedError: the engine gave no log-probabilities, or none that can be.
    """
    longest = engine_client.model_config.max_model_len - 1  # a token is sampled after them, and thrown away
    said = list(said[: max(1, longest // 2)])
    before = list(context[-max(1, longest - len(said)) :])
    asked = SamplingParams(
        max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
    )
    prompt_logprobs = None
    async for output in engine_client.generate(
        tokens_input(before + said), asked, f"excise-judge-{uuid.uuid4().hex}", priority=PRIORITY
    ):
        prompt_logprobs = output.prompt_logprobs
    if not before or prompt_logprobs is None or len(prompt_logprobs) != len(before) + len(said):
        raise NotJudgedError("the engine gave no log-probabilities of a prompt")
    rows = prompt_logprobs[len(before) :]
    total = math.fsum(row[token].logprob for row, token in zip(rows, said, strict=True))
    if not total <= 0:  # --logprobs-mode may ask for logits instead
        raise NotJudgedError(f"the engine's log-probabilities add up to {total}, which none do")
    return total / len(said)
