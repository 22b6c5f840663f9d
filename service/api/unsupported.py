"""What vLLM's API has and this server leaves out: refused by name, because leaving it out in silence would mislead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.errors import InvalidRequestError

NOT_KEPT = "responses are not kept here: send the whole conversation as 'input'"
"""vLLM's store of responses is never emptied, is one process's, and gives anybody's responses to everybody."""

_OF_A_STORE = ("previous_response_id", "conversation", "background")


def check_supported(path: str, body: Mapping[str, Any]) -> None:
    """Refuse what is left out.

    Raises:
        InvalidRequestError: the request asks for it.
    """
    if body.get("use_beam_search"):
        raise _refused(
            "use_beam_search",
            "beam search is not served: its steps cannot be told from responses; leave 'use_beam_search' out",
        )
    if path != "/v1/responses":
        return
    for name in _OF_A_STORE:
        if body.get(name):
            raise _refused(name, f"'{name}' is not taken, as {NOT_KEPT}")
    items = body.get("input")
    for place, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict) and item.get("type") == "item_reference":
            raise _refused(f"input[{place}]", f"an 'item_reference' leads nowhere, as {NOT_KEPT}")


def _refused(name: str, why: str) -> InvalidRequestError:
    return InvalidRequestError(why, code="not_supported", param=name)
