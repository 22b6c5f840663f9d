"""Access: which paths exist, who may call them, and whether a key is good. Pure functions."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from enum import Enum

from pydantic import SecretStr

from service.errors import ForbiddenError, MethodNotAllowedError, NotFoundError, UnauthorizedError


class Role(Enum):
    """Who may call a route."""

    OPEN = "open"
    READER = "reader"
    ADMIN = "admin"


INFERENCE = frozenset(
    ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/tokenize", "/detokenize")
)
"""POST calls whose JSON body names a model: the gateway routes them."""

_PROBES = frozenset(("/health", "/ready", "/metrics", "/metrics/"))
_READ = re.compile(
    r"/v1/models(/.+)?|/v1/responses/[^/]+|/masks(/[a-z0-9][^/]*){0,2}|/masks/[a-z0-9][^/]*/[^/]+/file|/openapi\.json"
)


def role(method: str, path: str, *, open_probes: bool = True) -> Role:
    """Who may call ``method path``. Raises ``NotFoundError`` or ``MethodNotAllowedError`` for what is not listed."""
    roles: dict[str, Role] = {}
    if path in INFERENCE:
        roles = {"POST": Role.READER}
    elif path in _PROBES:
        roles = dict.fromkeys(("GET", "HEAD"), Role.OPEN if open_probes else Role.READER)
    elif path == "/route":
        roles = {"GET": Role.ADMIN, "PUT": Role.ADMIN}
    elif _READ.fullmatch(path):
        roles = {"GET": Role.READER, **({"POST": Role.ADMIN} if path == "/masks" else {})}
    if not roles:
        raise NotFoundError(f"there is no route {path}", code="route_not_found")
    if method not in roles:
        raise MethodNotAllowedError(f"{path} takes {' and '.join(roles)}, not {method}", code="method_not_allowed")
    return roles[method]


def authorize(needed: Role, authorization: str, api_keys: Iterable[SecretStr], admin_keys: Iterable[SecretStr]) -> None:
    """Check the ``Authorization`` header's bearer key against the role. An admin key also reads.

    Without any API key reading is open; without any admin key the changing calls are closed. Raises
    ``UnauthorizedError`` or ``ForbiddenError``.
    """
    if needed is Role.OPEN:
        return
    api_keys, admin_keys = tuple(api_keys), tuple(admin_keys)
    scheme, _, key = authorization.partition(" ")
    key = key.strip() if scheme.lower() == "bearer" else ""
    admin = _matches(key, admin_keys)
    if needed is Role.ADMIN:
        if not admin_keys:
            raise ForbiddenError(
                "this server has no admin key, so nothing can be changed over HTTP; start it with --admin-key",
                code="no_admin_key",
            )
        if not key:
            raise UnauthorizedError("send an admin key as 'Authorization: Bearer KEY'", code="invalid_api_key")
        if not admin:
            if _matches(key, api_keys):
                raise ForbiddenError("this key may read, not change; send an admin key", code="not_an_admin_key")
            raise UnauthorizedError("unknown key", code="invalid_api_key")
        return
    if api_keys and not admin and not _matches(key, api_keys):
        raise UnauthorizedError(
            "unknown key" if key else "send a key as 'Authorization: Bearer KEY'", code="invalid_api_key"
        )


def _matches(key: str, keys: tuple[SecretStr, ...]) -> bool:
    """Compare with every key, in a time that does not depend on where they differ."""
    given = hashlib.sha256(key.encode()).digest()
    good = [hmac.compare_digest(given, hashlib.sha256(k.get_secret_value().encode()).digest()) for k in keys]
    return bool(key) and any(good)
