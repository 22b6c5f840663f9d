"""Access: every route × every role."""

import pytest
from pydantic import SecretStr

from service.api.access import Role, authorize, role
from service.errors import ForbiddenError, MethodNotAllowedError, NotFoundError, ServiceError, UnauthorizedError

API, ADMIN = [SecretStr("reader"), SecretStr("reader-two")], [SecretStr("admin")]


@pytest.mark.parametrize(
    ("call", "needed"),
    [
        ("GET /health", Role.OPEN),
        ("GET /ready", Role.OPEN),
        ("GET /metrics", Role.OPEN),
        ("GET /metrics/", Role.OPEN),
        ("POST /v1/chat/completions", Role.READER),
        ("POST /v1/completions", Role.READER),
        ("POST /v1/responses", Role.READER),
        ("GET /v1/models", Role.READER),
        ("GET /v1/models/demo:base", Role.READER),
        ("GET /masks", Role.READER),
        ("GET /masks/detox", Role.READER),
        ("GET /masks/detox/1", Role.READER),
        ("GET /masks/detox/1/file", Role.READER),
        ("GET /route", Role.ADMIN),
        ("POST /masks", Role.ADMIN),
        ("PUT /route", Role.ADMIN),
    ],
)
def test_each_route_has_its_role(call, needed):
    assert role(*call.split()) is needed


@pytest.mark.parametrize(
    "path",
    [
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/invocations",
        "/collective_rpc",
        "/sleep",
        "/v1//chat/completions",
        "/masks/../route",
        "/v1/chat/completions/",
        "//masks",
        "/docs",
        "/ping",
        "/",
    ],
)
def test_every_other_route_is_closed(path):
    with pytest.raises(NotFoundError):
        role("POST", path)


@pytest.mark.parametrize("call", ["DELETE /masks/detox/1", "PATCH /route", "GET /v1/completions", "POST /health"])
def test_a_known_route_with_another_method_is_told_so(call):
    with pytest.raises(MethodNotAllowedError):
        role(*call.split())


def test_probes_ask_for_a_key_where_that_is_set():
    assert role("GET", "/metrics", open_probes=False) is Role.READER


@pytest.mark.parametrize("needed", Role)
@pytest.mark.parametrize(
    ("header", "who"),
    [
        ("", "nobody"),
        ("Bearer wrong", "nobody"),
        ("Basic admin", "nobody"),
        ("Bearer", "nobody"),
        ("Bearer reader", "reader"),
        ("bearer reader-two", "reader"),
        ("Bearer admin", "admin"),
    ],
)
def test_a_key_opens_what_its_role_may(needed, header, who):
    allowed = needed is Role.OPEN or who == "admin" or (needed is Role.READER and who == "reader")
    if allowed:
        authorize(needed, header, API, ADMIN)
    else:
        with pytest.raises((UnauthorizedError, ForbiddenError)):
            authorize(needed, header, API, ADMIN)


def test_without_an_admin_key_changing_calls_are_forbidden_to_everyone():
    for header in ("", "Bearer reader", "Bearer "):
        with pytest.raises(ForbiddenError, match="--admin-key"):
            authorize(Role.ADMIN, header, API, [])


def test_without_api_keys_reading_is_open():
    authorize(Role.READER, "", [], ADMIN)


def test_no_error_shows_a_key():
    for needed in (Role.READER, Role.ADMIN):
        with pytest.raises(ServiceError) as caught:
            authorize(needed, "Bearer s3cret", API, ADMIN)
        assert "s3cret" not in str(caught.value.body())
