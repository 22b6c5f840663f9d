"""The observer: sees every response of every endpoint where it leaves the engine, and checks which mask made it.

Wraps ``engine_client.generate`` (vllm/v1/engine/async_llm.py). It changes nothing of what passes through.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput

from service import metrics
from service.routing.policy import ROUTED, Choice, Routed
from service.scoring.coherence import CONTEXT
from service.scoring.response import Response

DigestOf = Callable[[LoRARequest | None], str]


class WrongMaskError(RuntimeError):
    """The engine was about to answer with another mask than the router chose. Never answered."""


def check(choice: Choice, digest: str) -> str:
    """Compare what was chosen with the mask that the engine has; return its digest. Raises ``WrongMaskError``."""
    if digest != choice.digest:
        raise WrongMaskError(
            f"the router chose {choice.label} ({choice.digest[:12] or 'no mask'}), "
            f"the engine has {digest[:12] or 'no mask'}; the request was not answered"
        )
    return digest


def observe(
    engine_client: Any, put: Callable[[Response], None], digest_of: DigestOf, label_of: Callable[[str], str]
) -> None:
    """Wrap ``engine_client.generate``. ``put`` gets each finished response; one that is cut off is not counted.

    ``digest_of`` tells what mask an adapter (None: no adapter) is, as the engine's workers reported it; empty for none.
    ``label_of`` bounds the labels of the metrics.
    """
    generate = engine_client.generate

    def observed(*args: Any, **kwargs: Any) -> AsyncGenerator[RequestOutput, None]:
        routed = ROUTED.get()
        if routed is None:
            return generate(*args, **kwargs)
        check(routed.choice, digest_of(kwargs.get("lora_request")))
        first, routed.generated = not routed.generated, True
        return _watch(generate(*args, **kwargs), routed, put, digest_of, label_of(routed.choice.label), first)

    engine_client.generate = observed


def response_id(request: str) -> str:
    """The id that the client gets, from the engine's of the request.

    Several requests of one call are numbered: ``cmpl-X-0`` by completions, ``resp_X_0`` by responses; not by chat.
    Source: ``request_id`` in vllm/entrypoints/openai/*/serving.py.
    """
    if request.startswith("chatcmpl-"):
        return request
    return re.sub(r"-\d+$" if request.startswith("cmpl-") else r"_\d+$", "", request)


async def _watch(
    outputs: AsyncGenerator[RequestOutput, None],
    routed: Routed,
    put: Callable[[Response], None],
    digest_of: DigestOf,
    label: str,
    first: bool,
) -> AsyncGenerator[RequestOutput, None]:
    started, choice, checked = time.perf_counter(), routed.choice, False
    texts: dict[int, list[str]] = {}
    tokens: dict[int, list[int]] = {}
    try:
        async for output in outputs:
            if not checked:
                routed.digest = check(choice, digest_of(output.lora_request))
                checked = True
            for completion in output.outputs:
                # A streamed output carries what is new; a final one carries all, once. Adding up fits both.
                texts.setdefault(completion.index, []).append(completion.text)
                tokens.setdefault(completion.index, []).extend(completion.token_ids)
                if completion.finish_reason in ("stop", "length", "repetition"):
                    seconds = time.perf_counter() - started
                    metrics.RESPONSES.labels(label).inc()
                    if routed.shown:  # copies wait longer than anybody would
                        metrics.SECONDS.labels(label).observe(seconds)
                    counted = first and completion.index == 0
                    routed.told = routed.told or counted
                    said = tokens.pop(completion.index)
                    if completion.finish_reason == "stop" and not isinstance(completion.stop_reason, str):
                        said = said[:-1]  # the token that ended it is no part of what was said
                    put(
                        Response(
                            label,
                            "".join(texts.pop(completion.index)),
                            said,
                            seconds=seconds,
                            truncated=completion.finish_reason == "length",
                            unit=routed.unit,
                            assigned=choice.assigned,
                            counted=counted,
                            id=response_id(output.request_id) if routed.shown else "",
                            prompt=routed.prompt,
                            context=(output.prompt_token_ids or ())[-CONTEXT:],
                        )
                    )
            yield output
    finally:
        await outputs.aclose()
