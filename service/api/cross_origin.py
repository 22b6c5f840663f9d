"""Browsers of other origins: what they may call, and which headers of an answer a page may read.

Outermost, so that the gateway's own answers carry these headers too: a page that may not read a 401 sees a failed
connection.
"""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from service import bootstrap

EXPOSED = (
    "x-excise-mask",
    "x-excise-digest",
    "x-excise-experiment",
    "x-excise-variant",
    "x-request-id",
    "retry-after",
)
"""Without `Access-Control-Expose-Headers` a page reads a handful of standard headers and no others."""


class CrossOrigin(CORSMiddleware):
    """Named to vLLM by `--middleware`; set by vLLM's own options, --allowed-origins and its like."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app, expose_headers=EXPOSED, **bootstrap.current().cross_origin)
