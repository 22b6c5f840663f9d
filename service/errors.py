"""Errors that a client meets. Each knows its HTTP status and the `code` of the OpenAI error shape.

ServiceError
├── InvalidRequestError   400  the body or a field is not what the call takes
├── UnauthorizedError     401  no key, or an unknown one
├── ForbiddenError        403  the key may not do this, or no admin key is set
├── NotFoundError         404  unknown model, mask, version or route
├── MethodNotAllowedError 405  a known route, another method
├── ConflictError         409  understood, but this server cannot do it as it stands
├── TooLargeError         413  body over the limit
├── TooManyRequestsError  429  calls come too fast; says when to come again
├── InternalError         500  a fault of ours or vLLM's, which the log tells
└── UnavailableError      503  the mask could not be made resident; nothing was answered uncorrected
    ├── EngineDiedError        the engine's process ended; this server ends as well
    └── ServerEndingError      this server was told to end; says when to come again
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar


class ServiceError(Exception):
    """Base of all errors answered to a client; `param` names the offending field where there is one."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"

    def __init__(self, message: str, *, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers that go with the answer."""
        return {}

    def body(self) -> dict[str, Any]:
        """The OpenAI-shaped error document."""
        return {"error": {"message": self.message, "type": self.type, "code": self.code, "param": self.param}}


class InvalidRequestError(ServiceError):
    """400."""

    status = 400
    type = "invalid_request_error"


class UnauthorizedError(ServiceError):
    """401."""

    status = 401
    type = "authentication_error"


class ForbiddenError(ServiceError):
    """403."""

    status = 403
    type = "permission_error"


class NotFoundError(ServiceError):
    """404."""

    status = 404
    type = "not_found_error"


class MethodNotAllowedError(ServiceError):
    """405."""

    status = 405
    type = "invalid_request_error"


class ConflictError(ServiceError):
    """409."""

    status = 409
    type = "conflict_error"


class TooLargeError(ServiceError):
    """413."""

    status = 413
    type = "invalid_request_error"


class TooManyRequestsError(ServiceError):
    """429. `retry_after`: whole seconds until the call would be taken."""

    status = 429
    type = "rate_limit_error"

    def __init__(self, message: str, *, code: str, retry_after: int) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """`Retry-After`."""
        return {"Retry-After": str(self.retry_after)}


class InternalError(ServiceError):
    """500. What failed is logged, and nobody else's to read."""

    def __init__(self) -> None:
        super().__init__("the server failed on this request; its log says why", code="internal_error")


class UnavailableError(ServiceError):
    """503."""

    status = 503
    type = "service_unavailable_error"


class EngineDiedError(UnavailableError):
    """The engine's process has ended. The server ends too, with a code that is not 0, so that it is started again."""

    def __init__(self) -> None:
        super().__init__("the engine has died and this server is ending; send the request again", code="engine_died")


class ServerEndingError(UnavailableError):
    """The server is shutting down. What was not answered can be sent again, to another replica or the next server."""

    def __init__(self) -> None:
        super().__init__("this server is ending and takes no more requests; send it again", code="server_ending")

    @property
    def headers(self) -> dict[str, str]:
        """`Retry-After`; and the connection is closed, so that the client does not come back to this server."""
        return {"Retry-After": "5", "Connection": "close"}


@contextmanager
def about(param: str) -> Iterator[None]:
    """Errors in the block that are about a mask are about the field `param`: what a request calls `model`."""
    try:
        yield
    except ServiceError as error:
        if error.param == "model":
            error.param = param
        raise
