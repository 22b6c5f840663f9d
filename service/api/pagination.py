"""Lists as they are sent: each entry is written on its own, so that a long one never holds the event loop up.

A list goes past FastAPI's own way, which writes it on the event loop, and one encoding of megabytes holds the
interpreter for as long as it takes. To be called from a thread, as FastAPI calls the routes that are no coroutines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import BaseModel

Offset = Annotated[int, Query(ge=0, le=2**31 - 1)]
Limit = Annotated[int, Query(ge=1, le=1000)]


def listed(entries: Iterable[BaseModel | dict[str, Any]], **more: int) -> Response:
    """`{"object": "list", "data": [entries …], …}`; `more` follows."""
    said = (_encoded(entry) for entry in entries)
    rest = "".join(f',"{name}":{value}' for name, value in more.items())
    body = b'{"object":"list","data":[' + b",".join(said) + f"]{rest}}}".encode()
    return Response(body, media_type="application/json")


def _encoded(entry: BaseModel | dict[str, Any]) -> bytes:
    if isinstance(entry, BaseModel):
        return entry.model_dump_json().encode()
    return json.dumps(entry, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
