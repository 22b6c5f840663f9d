"""``/console``: the page for operators. Files that are built from ``console/`` (``make console``) and hold nothing.

Whoever opens the page gives it a key, and it calls the API as anybody would: it can do no more than that key.
"""

from __future__ import annotations

import functools
from pathlib import Path as Folder

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from service import bootstrap
from service.errors import NotFoundError

router = APIRouter(include_in_schema=False)

BUILT = Folder(__file__).resolve().parents[1] / "console"
"""What ``make console`` writes."""

FILES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Every file that is served, and its media type. No other name is looked for on the disk."""

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",
}
"""With every file: nothing of another origin or written into the page runs, and no other site may frame it."""


@router.get("/console")
def page() -> Response:
    """The page itself; its files are beside it, under ``console/``."""
    return _file("index.html")


@router.get("/console/")
def moved() -> Response:
    """As people type it. The page's own links count from ``/console``."""
    _check_open()
    return RedirectResponse("../console", 308, HEADERS)


@router.get("/console/{name}")
def file(name: str) -> Response:
    """A script, a style sheet or a picture of it."""
    return _file(name)


def _file(name: str) -> Response:
    _check_open()
    if name not in FILES:
        raise NotFoundError(f"the console has no file {name!r}", code="route_not_found")
    return Response(_read(name), media_type=FILES[name], headers=HEADERS)


def _check_open() -> None:
    service = bootstrap.current()
    wanted = service.settings.console
    if wanted == "on" or (wanted == "auto" and (service.keys.admin() or service.keys.api())):
        return
    raise NotFoundError(
        "there is no console here: "
        + (
            "it was switched off (EXCISE_CONSOLE=off)"
            if wanted == "off"
            else "this server has no key; start it with --admin-key-file or --api-key-file, or with EXCISE_CONSOLE=on"
        ),
        code="console_off",
    )


@functools.cache
def _read(name: str) -> bytes:
    return (BUILT / name).read_bytes()
