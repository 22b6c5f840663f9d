"""Access: every route × every method × every key, near misses, and who an admin is."""

import itertools
import re

import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from service.api.access import INFERENCE, ROUTES, Role, authorize, role, who
from service.errors import ForbiddenError, MethodNotAllowedError, NotFoundError, ServiceError, UnauthorizedError
from service.keys import Keys, digest

READERS, ADMINS = ("reader-key-one", "reader-key-two"), ("admin-key-one", "admin-key-two")
KEYS = Keys(map(SecretStr, READERS), map(SecretStr, ADMINS))
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "")

TABLE = """
POST   /v1/chat/completions reader
POST   /v1/completions reader
POST   /v1/responses reader
POST   /v1/messages reader
POST   /tokenize reader
POST   /detokenize reader
POST   /v1/messages/count_tokens reader
GET    /tokenizer_info reader
GET    /v1/models reader
GET    /v1/models/demo:base reader
GET    /openapi.json reader
GET    /health open
HEAD   /health open
GET    /ready open
HEAD   /ready open
GET    /metrics open
HEAD   /metrics open
GET    /metrics/ open
HEAD   /metrics/ open
GET    /masks reader
POST   /masks admin
GET    /masks/detox reader
GET    /masks/detox/1 reader
DELETE /masks/detox/1 admin
GET    /masks/detox/1/file reader
GET    /masks/detox/aliases reader
PUT    /masks/detox/aliases/production admin
DELETE /masks/detox/aliases/production admin
POST   /masks/detox/aliases/production/rollback admin
GET    /route admin
PUT    /route admin
POST   /route/rollback admin
GET    /experiments admin
POST   /experiments admin
GET    /experiments/a-b.1 admin
PATCH  /experiments/a-b.1 admin
DELETE /experiments/a-b.1 admin
POST   /experiments/a-b.1/stop admin
GET    /experiments/a-b.1/report reader
GET    /audit admin
POST   /feedback reader
GET    /flagged admin
DELETE /flagged admin
PUT    /flagged/7 admin
GET    /jobs reader
POST   /jobs admin
GET    /jobs/7 reader
GET    /jobs/7/prompts admin
POST   /jobs/7/claim admin
POST   /jobs/7/result admin
POST   /jobs/7/approve admin
POST   /jobs/7/cancel admin
GET    /overview reader
GET    /traffic reader
GET    /console page
HEAD   /console page
GET    /console/ page
HEAD   /console/ page
GET    /console/app.js page
HEAD   /console/app.js page
"""
EXPECTED = {(method, path): Role(needed) for method, path, needed in map(str.split, TABLE.split("\n")[1:-1])}
PATHS = sorted({path for _, path in EXPECTED})

CALLERS = {
    "": None,
    "Bearer": None,
    "Bearer ": None,
    "Basic admin-key-one": None,
    "admin-key-one": None,
    "Bearer wrong": None,
    "Bearer admin-key-on": None,
    "Bearer admin-key-onee": None,
    "Bearer Admin-Key-One": None,
    "Bearer admin-key-one,admin-key-two": None,
    "Bearer admin-key-one admin-key-two": None,
    "Bearer \xe9\xff": None,
    "Bearer reader-key-one": Role.READER,
    "bearer reader-key-two": Role.READER,
    "Bearer admin-key-one": Role.ADMIN,
    "BEARER  admin-key-two ": Role.ADMIN,
}


def allowed(needed: Role, caller: Role | None) -> bool:
    return needed in (Role.OPEN, Role.PAGE) or caller is Role.ADMIN or caller is needed


def test_the_table_above_knows_every_route():
    assert len(EXPECTED) == sum(map(len, ROUTES.values()))
    assert len(PATHS) == len(ROUTES)


@pytest.mark.parametrize("path", PATHS)
def test_every_route_with_every_method_and_every_key(path):
    for method, (header, caller) in itertools.product(METHODS, CALLERS.items()):
        needed = EXPECTED.get((method, path))
        if needed is None:
            with pytest.raises(MethodNotAllowedError):
                role(method, path)
        else:
            assert role(method, path) is needed
            if allowed(needed, caller):
                authorize(needed, header, KEYS)
            else:
                with pytest.raises(ForbiddenError if caller else UnauthorizedError):
                    authorize(needed, header, KEYS)


def test_all_that_changes_something_asks_for_an_admin_key():
    for path, roles in ROUTES.items():
        for method in roles.keys() - {"GET", "HEAD"}:
            assert roles[method] is (Role.READER if path in {*INFERENCE, "/feedback"} else Role.ADMIN), (method, path)


def test_the_routers_serve_no_more_than_the_table_and_all_that_needs_an_admin():
    from service.api.plugin import attach

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    attach(app)

    def named(path: str) -> str:
        return re.sub(r"\{[^}]+\}", "{}", path)

    served = {(method, named(path)) for path, methods in app.openapi()["paths"].items() for method in methods}
    known = {
        (method.lower(), named(path)): needed for path, roles in ROUTES.items() for method, needed in roles.items()
    }
    assert served <= known.keys()
    assert {call for call, needed in known.items() if needed is Role.ADMIN} <= served


def test_a_model_with_slashes_in_its_name_has_its_page():
    assert role("GET", "/v1/models/org/demo:detox@1") is Role.READER


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "*",
        "masks",
        "//masks",
        "/./masks",
        "/masks/",
        "/masks//",
        "/masks//1",
        "/Masks",
        "/MASKS/detox",
        "/masks/Detox",
        "/masks\n",
        "/masks ",
        "/masks/detox\n",
        "/masks/detox/1\n",
        "/masks/detox/1 ",
        "/masks/detox\x00",
        "/masks/d\xe9tox",
        "/masks?x",
        "/masks;x",
        "/masks/..",
        "/masks/../route",
        "/masks/%2e%2e",
        "/masks/%2e%2e/route",
        "/masks%2fdetox",
        "/masks/detox/",
        "/masks/detox/..",
        "/masks/detox/1/",
        "/masks/detox/1/file/",
        "/masks/detox/1/files",
        "/masks/detox/1/file/x",
        "/masks/detox/1/rollback",
        "/masks/detox/aliases/",
        "/masks/detox/aliases/production/",
        "/masks/detox/aliases/production/rollback/",
        "/masks/detox/aliases/../rollback",
        "/masks/detox/Aliases/production",
        "/masks/{name}",
        "/masks/{name}/{version}",
        "/experiments/{name}",
        "/route/",
        "/Route",
        "/route/x",
        "/route/rollback/",
        "/route\n",
        "/experiments/",
        "/experiments//report",
        "/experiments/a/",
        "/experiments/a/report/",
        "/experiments/a/report/x",
        "/experiments/a/Report",
        "/experiments/a/report\n",
        "/experiments/a/stop/",
        "/experiments/a/start",
        "/experiments/a/b/report",
        "/audit/",
        "/audit/1",
        "/flagged/",
        "/v1",
        "/v1/",
        "/v1//chat/completions",
        "/v1/chat/completions/",
        "/v1/chat/completions/batch",
        "/V1/chat/completions",
        "/v1/chat%2fcompletions",
        "/v1/models/",
        "/v1/responses/",
        "/v1/responses/x",
        "/v1/responses/x/cancel",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/health/",
        "/metrics//",
        "/metrics/x",
        "/invocations",
        "/collective_rpc",
        "/sleep",
        "/docs",
        "/ping",
    ],
)
def test_every_other_path_is_closed(path):
    for method in METHODS:
        with pytest.raises(NotFoundError):
            role(method, path)


def test_a_slash_that_was_encoded_counts_as_the_router_sees_it():
    # The server decodes /masks/detox%2Faliases before anybody looks at it, so access and routers see the same path.
    assert role("GET", "/masks/detox/aliases") is Role.READER
    assert role("PUT", "/masks/detox/aliases/1") is Role.ADMIN


def test_probes_ask_for_a_key_where_that_is_set():
    for path in ("/health", "/ready", "/metrics", "/metrics/"):
        assert role("GET", path, open_probes=False) is Role.READER
    assert role("GET", "/audit", open_probes=False) is Role.ADMIN


def test_without_an_admin_key_changing_calls_are_forbidden_to_everyone():
    for header in CALLERS:
        with pytest.raises(ForbiddenError, match="--admin-key"):
            authorize(Role.ADMIN, header, Keys(map(SecretStr, READERS)))


def test_without_api_keys_reading_is_open():
    for header in CALLERS:
        authorize(Role.READER, header, Keys(admin=map(SecretStr, ADMINS)))


def test_no_error_shows_a_key():
    for needed in (Role.READER, Role.ADMIN):
        with pytest.raises(ServiceError) as caught:
            authorize(needed, "Bearer s3cret-key", KEYS)
        assert "s3cret" not in str(caught.value.body())


def test_an_admin_is_named_by_a_fingerprint_that_does_not_show_the_key():
    names = {who(f"Bearer {key}") for key in ADMINS}
    assert len(names) == 2
    for name in names:
        kind, _, fingerprint = name.partition(" ")
        assert kind == "key"
        assert len(fingerprint) == 8
        assert set(fingerprint) <= set("0123456789abcdef")
        assert not any(digest(key).hex().startswith(fingerprint) for key in ADMINS)
    assert who("bearer  admin-key-one ") == who("Bearer admin-key-one")
    assert who("") == "nobody"
