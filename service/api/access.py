"""Access: which paths exist, who may call them, and whether a key is good."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from service.api.unsupported import NOT_KEPT
from service.errors import ForbiddenError, MethodNotAllowedError, NotFoundError, UnauthorizedError
from service.keys import Keys, fingerprint, matches


class Role(Enum):
    """Who may call a route."""

    PAGE = "page"  # a file of the console: it holds nothing, and a browser sends no key for it
    OPEN = "open"
    READER = "reader"
    ADMIN = "admin"


INFERENCE = frozenset(
    (
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/tokenize",
        "/detokenize",
    )
)
"""POST calls whose JSON body names a model: the gateway routes them."""

_ASK = {"POST": Role.READER}
_PAGE = {"GET": Role.PAGE, "HEAD": Role.PAGE}
_PROBE = {"GET": Role.OPEN, "HEAD": Role.OPEN}
_CHANGE = {"POST": Role.ADMIN}

ROUTES: Mapping[str, Mapping[str, Role]] = MappingProxyType(
    {
        **dict.fromkeys(sorted(INFERENCE), _ASK),
        **dict.fromkeys(("/health", "/ready", "/metrics", "/metrics/"), _PROBE),
        "/feedback": _ASK,
        "/v1/models": {"GET": Role.READER},
        "/v1/models/{model:path}": {"GET": Role.READER},
        "/openapi.json": {"GET": Role.READER},
        "/tokenizer_info": {"GET": Role.READER},  # there with --enable-tokenizer-info-endpoint alone
        "/masks": {"GET": Role.READER, "POST": Role.ADMIN},
        "/masks/{name}": {"GET": Role.READER},
        "/masks/{name}/aliases": {"GET": Role.READER},
        "/masks/{name}/aliases/{name}": {"PUT": Role.ADMIN, "DELETE": Role.ADMIN},
        "/masks/{name}/aliases/{name}/rollback": _CHANGE,
        "/masks/{name}/{version}": {"GET": Role.READER, "DELETE": Role.ADMIN},
        "/masks/{name}/{version}/file": {"GET": Role.READER},
        "/route": {"GET": Role.ADMIN, "PUT": Role.ADMIN},
        "/route/rollback": _CHANGE,
        "/experiments": {"GET": Role.ADMIN, "POST": Role.ADMIN},
        "/experiments/{name}": {"GET": Role.ADMIN, "PATCH": Role.ADMIN, "DELETE": Role.ADMIN},
        "/experiments/{name}/stop": _CHANGE,
        "/experiments/{name}/report": {"GET": Role.READER},
        "/audit": {"GET": Role.ADMIN},
        "/flagged": {"GET": Role.ADMIN, "DELETE": Role.ADMIN},
        "/flagged/{version}": {"PUT": Role.ADMIN},
        "/overview": {"GET": Role.READER},
        "/traffic": {"GET": Role.READER},
        **dict.fromkeys(("/console", "/console/", "/console/{name}"), _PAGE),
    }
)
"""Every route: path → method → role. Of two that fit, the first one counts. Everything else is closed."""

_WORD = r"[a-z0-9][!-.0-~]*"  # close to what names are; the routers are strict, and say what is wrong
_PARTS = {"{name}": _WORD, "{version}": _WORD, "{model:path}": r".+"}


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[^}]+\})", path)
    return re.compile("".join(_PARTS[part] if part.startswith("{") else re.escape(part) for part in parts))


_FIXED = {path: roles for path, roles in ROUTES.items() if "{" not in path}
_PATTERNS = tuple((_pattern(path), roles) for path, roles in ROUTES.items() if "{" in path)


def role(method: str, path: str, *, open_probes: bool = True) -> Role:
    """Who may call ``method path``. Raises ``NotFoundError`` or ``MethodNotAllowedError`` for what is not listed.

    ``path`` is as the server decoded it, which is also what the routers go by.
    """
    roles = _FIXED.get(path) or next((roles for pattern, roles in _PATTERNS if pattern.fullmatch(path)), None)
    if roles is None:
        if path.startswith("/v1/responses/"):
            raise NotFoundError(NOT_KEPT, code="not_supported")
        raise NotFoundError(f"there is no route {path}", code="route_not_found")
    if method not in roles:
        raise MethodNotAllowedError(f"{path} takes {' and '.join(roles)}, not {method}", code="method_not_allowed")
    needed = roles[method]
    return Role.READER if needed is Role.OPEN and not open_probes else needed


def authorize(needed: Role, authorization: str, keys: Keys) -> None:
    """Check the ``Authorization`` header's bearer key against the role. An admin key also reads.

    Without any API key reading is open; without any admin key the changing calls are closed. Raises
    ``UnauthorizedError`` or ``ForbiddenError``.
    """
    if needed in (Role.OPEN, Role.PAGE):
        return
    api, admin = keys.api(), keys.admin()
    key = _bearer(authorization)
    if needed is Role.ADMIN:
        if not admin:
            raise ForbiddenError(
                "this server has no admin key, so nothing can be changed over HTTP; start it with --admin-key-file "
                "or --admin-key",
                code="no_admin_key",
            )
        if not key:
            raise UnauthorizedError("send an admin key as 'Authorization: Bearer KEY'", code="invalid_api_key")
        if not matches(key, admin):
            if matches(key, api):
                raise ForbiddenError("this key may not do that; send an admin key", code="not_an_admin_key")
            raise UnauthorizedError("unknown key", code="invalid_api_key")
    elif api and not matches(key, api + admin):
        raise UnauthorizedError(
            "unknown key" if key else "send a key as 'Authorization: Bearer KEY'", code="invalid_api_key"
        )


def who(authorization: str) -> str:
    """Names the caller for the audit and for the limit of admin calls, without showing the key: ``key 3f9a01bc``."""
    key = _bearer(authorization)
    return f"key {fingerprint(key)}" if key else "nobody"


def key_of(headers: Mapping[str, str]) -> str:
    """The key that a request carries, as OpenAI's or as Anthropic's clients send it; empty without."""
    return _bearer(headers.get("authorization") or f"Bearer {headers.get('x-api-key', '')}")


def _bearer(authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
