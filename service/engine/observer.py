"""The observer: sees every response of every endpoint where it leaves the engine, and checks which mask made it.

Wraps `engine_client.generate` (vllm/v1/engine/async_llm.py). It changes nothing of what passes through.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.outputs import CompletionOutput, RequestOutput

from service import metrics
from service.routing.policy import ROUTED, Choice, Routed
from service.scoring.coherence import CONTEXT
from service.scoring.response import Response

_FINISHED = ("stop", "length", "repetition")
"""The reasons of a finished response; others are of one that was cut off."""

DigestOf = Callable[[LoRARequest | None], str]


class WrongMaskError(RuntimeError):
    """The engine was about to answer with another mask than the router chose. Never answered."""


def check(choice: Choice, digest: str) -> str:
    """Compare what was chosen with the mask that the engine has; return its digest.

    Raises:
        WrongMaskError: the two differ.
    """
    if digest != choice.digest:
        raise WrongMaskError(
            f"the router chose {choice.label} ({choice.digest[:12] or 'no mask'}), "
            f"the engine has {digest[:12] or 'no mask'}; the request was not answered"
        )
    return digest


def observe(
    engine_client: Any, put: Callable[[Response], None], digest_of: DigestOf, label_of: Callable[[str], str]
) -> None:
    """Wrap `engine_client.generate`.

    Args:
        engine_client: vLLM's.
        put: gets each finished response; one that is cut off is not counted.
        digest_of: the mask that an adapter (None: no adapter) is, as the engine's workers reported it; empty for none.
        label_of: bounds the labels of the metrics.
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

    Several requests of one call are numbered: `cmpl-X-0` by completions, `resp_X_0` by responses; not by chat.
    Source: `request_id` in vllm/entrypoints/openai/*/serving.py.
    """
    if request.startswith("chatcmpl-"):
        return request
    return re.sub(r"-\d+$" if request.startswith("cmpl-") else r"_\d+$", "", request)


class _Generated:
    """What a request has generated so far, completion by completion."""

    def __init__(self, routed: Routed, label: str, first: bool) -> None:
        """`first`: whether no request to the engine came before it in the same call."""
        self._routed, self._label, self._first = routed, label, first
        self._started = time.perf_counter()
        self._texts: dict[int, list[str]] = {}
        self._tokens: dict[int, list[int]] = {}

    def add(self, completion: CompletionOutput) -> None:
        """A streamed output carries what is new; a final one carries all, once. Adding up fits both."""
        self._texts.setdefault(completion.index, []).append(completion.text)
        self._tokens.setdefault(completion.index, []).extend(completion.token_ids)

    def finish(self, output: RequestOutput, completion: CompletionOutput) -> Response:
        """The whole response, once, after its last part was added; it is counted in the metrics."""
        routed, seconds = self._routed, time.perf_counter() - self._started
        metrics.RESPONSES.labels(self._label).inc()
        if routed.shown:  # copies wait longer than anybody would
            metrics.SECONDS.labels(self._label).observe(seconds)
        counted = self._first and completion.index == 0
        routed.reported = routed.reported or counted
        tokens = self._tokens.pop(completion.index)
        if completion.finish_reason == "stop" and not isinstance(completion.stop_reason, str):
            tokens = tokens[:-1]  # the token that ended it is no part of the text
        return Response(
            self._label,
            "".join(self._texts.pop(completion.index)),
            tokens,
            seconds=seconds,
            truncated=completion.finish_reason == "length",
            unit=routed.unit,
            assigned=routed.choice.assigned,
            prompt=routed.prompt,
            counted=counted,
            id=response_id(output.request_id) if routed.shown else "",
            context=(output.prompt_token_ids or ())[-CONTEXT:],
        )


async def _watch(
    outputs: AsyncGenerator[RequestOutput, None],
    routed: Routed,
    put: Callable[[Response], None],
    digest_of: DigestOf,
    label: str,
    first: bool,
) -> AsyncGenerator[RequestOutput, None]:
    generated, checked = _Generated(routed, label, first), False
    try:
        async for output in outputs:
            if not checked:
                routed.digest = check(routed.choice, digest_of(output.lora_request))
                checked = True
            for completion in output.outputs:
                generated.add(completion)
                if completion.finish_reason in _FINISHED:
                    put(generated.finish(output, completion))
            yield output
    finally:
        await outputs.aclose()
