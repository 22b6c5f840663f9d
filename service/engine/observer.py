"""The observer: sees every response of every endpoint where it leaves the engine, and checks which mask made it.

Wraps ``engine_client.generate`` (vllm/v1/engine/async_llm.py). It changes nothing of what passes through.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput

from service import metrics
from service.routing import CHOICE, Choice
from service.scoring import Response


class WrongMaskError(RuntimeError):
    """The engine was about to answer with another mask than the router chose. Never answered."""


def check(choice: Choice, lora_request: LoRARequest | None, baked: str) -> None:
    """Compare what was chosen with what the engine was given. ``baked`` is the digest of the mask at load, or empty.

    The digest of an adapter is the last part of its path (see ``residency``). Raises ``WrongMaskError``.
    """
    given = Path(lora_request.lora_path).name if lora_request else baked
    if given != choice.digest:
        raise WrongMaskError(
            f"the router chose {choice.label} ({choice.digest[:12] or 'no mask'}), "
            f"the engine was given {given[:12] or 'no mask'}; the request was not answered"
        )


def observe(engine_client: Any, put: Callable[[Response], None], baked: str) -> None:
    """Wrap ``engine_client.generate``. ``put`` gets each finished response; one that is cut off is not counted."""
    generate = engine_client.generate

    def observed(*args: Any, **kwargs: Any) -> AsyncGenerator[RequestOutput, None]:
        choice = CHOICE.get()
        if choice is None:
            return generate(*args, **kwargs)
        check(choice, kwargs.get("lora_request"), baked)
        return _watch(generate(*args, **kwargs), choice, put)

    engine_client.generate = observed


async def _watch(
    outputs: AsyncGenerator[RequestOutput, None], choice: Choice, put: Callable[[Response], None]
) -> AsyncGenerator[RequestOutput, None]:
    started = time.perf_counter()
    texts: dict[int, list[str]] = {}
    tokens: dict[int, list[int]] = {}
    try:
        async for output in outputs:
            for completion in output.outputs:
                # A streamed output carries what is new; a final one carries all, once. Adding up fits both.
                texts.setdefault(completion.index, []).append(completion.text)
                tokens.setdefault(completion.index, []).extend(completion.token_ids)
                if completion.finish_reason in ("stop", "length", "repetition"):
                    metrics.RESPONSES.labels(choice.label).inc()
                    metrics.SECONDS.labels(choice.label).observe(time.perf_counter() - started)
                    said = tokens.pop(completion.index)
                    if completion.finish_reason == "stop" and not isinstance(completion.stop_reason, str):
                        said = said[:-1]  # the token that ended it is no part of what was said
                    put(Response(choice.label, "".join(texts.pop(completion.index)), said))
            yield output
    finally:
        await outputs.aclose()
