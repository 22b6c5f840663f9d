"""Exactness: a mask per request gives the very tokens and logprobs of the model with that mask baked in.

In float32 on CPU vLLM is batch-invariant, so this holds in any mixture and order, over HTTP, streamed or not.
"""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from openai import AsyncOpenAI

from tests.service.server import ADMIN, MODEL

pytestmark = pytest.mark.engine

DATA = MODEL.parent / "data"
PROMPTS = [
    json.loads(line)["prompt"]
    for name in ("insult_heldout", "loop_heldout", "everyday_heldout")
    for line in (DATA / f"{name}.jsonl").read_text().splitlines()[:6]
]
GREEDY = {"temperature": 0, "max_tokens": 24, "seed": 1}


def connect(server):
    return AsyncOpenAI(base_url=f"{server.url}/v1", api_key=ADMIN, max_retries=0, timeout=120)


async def chat(client, model, prompt):
    answer = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], logprobs=True, top_logprobs=3, **GREEDY
    )
    return logprobs_of(answer.choices[0].logprobs)


async def chat_stream(client, model, prompt):
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": prompt}],
        logprobs=True,
        top_logprobs=3,
        stream=True,
        **GREEDY,
    )
    return [
        entry
        async for chunk in stream
        for choice in chunk.choices
        if choice.logprobs
        for entry in logprobs_of(choice.logprobs)
    ]


def logprobs_of(logprobs):
    return [(t.token, t.logprob, [(o.token, o.logprob) for o in t.top_logprobs]) for t in logprobs.content]


async def completion(client, model, prompt):
    answer = await client.completions.create(model=model, prompt=prompt, logprobs=3, **GREEDY)
    logprobs = answer.choices[0].logprobs
    return list(zip(logprobs.tokens, logprobs.token_logprobs, strict=True))


async def completion_stream(client, model, prompt):
    stream = await client.completions.create(model=model, prompt=prompt, logprobs=3, stream=True, **GREEDY)
    token_logprobs = []
    async for chunk in stream:
        for choice in chunk.choices:
            if choice.logprobs:
                token_logprobs += zip(choice.logprobs.tokens, choice.logprobs.token_logprobs, strict=True)
    return token_logprobs


WAYS = {"chat": chat, "chat-stream": chat_stream, "completions": completion, "completions-stream": completion_stream}


async def answers(server, jobs):
    """Answer all jobs (way, model, prompt) at once."""
    async with connect(server) as client:
        return await asyncio.gather(*(WAYS[way](client, model, prompt) for way, model, prompt in jobs))


@pytest.mark.parametrize("way", WAYS)
def test_a_mixed_batch_equals_the_baked_models_bit_for_bit(engines, gated, way):
    jobs = [(way, f"demo:{mask}", prompt) for prompt in PROMPTS for mask in ("alpha@1", "beta@1", "base")]
    random.Random(0).shuffle(jobs)
    mixed = dict(zip(jobs, asyncio.run(answers(gated, jobs)), strict=True))
    for mask, server in (("alpha@1", engines.baked), ("beta@1", engines.plain)):
        alone = asyncio.run(answers(server, [(way, "demo", prompt) for prompt in PROMPTS]))
        for prompt, expected in zip(PROMPTS, alone, strict=True):
            assert len(expected) > 0
            assert mixed[way, f"demo:{mask}", prompt] == expected
    differing = sum(mixed[way, "demo:alpha@1", p] != mixed[way, "demo:base", p] for p in PROMPTS)
    assert differing > len(PROMPTS) // 2, "the masks change too little for this test to mean anything"


def test_the_base_model_is_the_same_alone_and_among_masked_requests(gated):
    alone = [asyncio.run(answers(gated, [("chat", "demo:base", prompt)]))[0] for prompt in PROMPTS]
    jobs = [("chat", f"demo:{mask}", prompt) for prompt in PROMPTS for mask in ("base", "beta@1")]
    assert asyncio.run(answers(gated, jobs))[::2] == alone


def test_one_prompt_under_each_mask_in_turn_shares_no_cache(gated):
    prompt = PROMPTS[0] + " " + " ".join(PROMPTS[1:5])  # longer than a KV block, so that a block could be shared
    first, second = (
        [asyncio.run(answers(gated, [("chat", f"demo:{mask}", prompt)]))[0] for mask in order]
        for order in (("alpha@1", "beta@1", "base"), ("base", "beta@1", "alpha@1"))
    )
    assert first == second[::-1]
    assert len({str(answer) for answer in first}) == 3
