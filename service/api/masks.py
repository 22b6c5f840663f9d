"""`/masks`: register, list, describe and download masks."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import FileResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from service import bootstrap
from service.api.pagination import Limit, Offset, listed
from service.api.schemas import MaskList, MaskOut, errors
from service.errors import InvalidRequestError, NotFoundError, UnavailableError
from service.storage.mask_files import StoreError

router = APIRouter(tags=["masks"])

Name = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}, "required": ["file"]}


@router.post(
    "/masks",
    status_code=201,
    response_model=MaskOut,
    responses={
        200: {"model": MaskOut, "description": "These bytes were registered before"},
        **errors(403, 409, 413, 503),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": _BINARY, "multipart/form-data": {"schema": _FORM}},
        }
    },
)
async def register(request: Request, response: Response) -> MaskOut:
    """Register a mask file: the body itself, or the field `file` of a form. Never a path or URL."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        data = await _file(request)
    else:
        pieces = [piece async for piece in request.stream()]
        data = await asyncio.to_thread(b"".join, pieces)
    if not data:
        raise InvalidRequestError(
            "the body is empty; send the mask file with curl --data-binary @MASK", code="no_file", param="body"
        )
    service = bootstrap.current()
    record, created = await service.register(data)
    response.status_code = 201 if created else 200
    return MaskOut.of(record, service.policy.model)


async def _file(request: Request) -> bytes:
    """The field `file` of a form.

    Raises:
        InvalidRequestError: there is none, or the form cannot be read.
    """
    try:
        async with request.form(max_files=1, max_fields=8) as form:
            file = form.get("file")
            if isinstance(file, UploadFile):
                return await file.read()
    except HTTPException as error:
        raise InvalidRequestError(f"the form cannot be read: {error.detail}", code="invalid_form") from error
    raise InvalidRequestError(
        "the form has no file in its field 'file'; send it with curl -F file=@MASK", code="no_file", param="file"
    )


@router.get("/masks", response_model=MaskList, responses=errors())
def list_masks(offset: Offset = 0, limit: Limit = 100) -> Response:
    """Registered masks by name and version, a page at a time."""
    service = bootstrap.current()
    records, total = service.registry.list(offset=offset, limit=limit)
    return listed((MaskOut.of(record, service.policy.model) for record in records), total=total)


@router.get("/masks/{name}", response_model=MaskList, responses=errors(404))
def list_versions(name: Name, offset: Offset = 0, limit: Limit = 100) -> Response:
    """The versions of one mask, oldest first."""
    service = bootstrap.current()
    records, total = service.registry.list(name=name, offset=offset, limit=limit)
    if total == 0:
        raise NotFoundError(f"there is no mask {name!r}; GET /masks lists them", code="mask_not_found", param="name")
    return listed((MaskOut.of(record, service.policy.model) for record in records), total=total)


@router.get("/masks/{name}/{version}", responses=errors(404))
def describe(name: Name, version: Number) -> MaskOut:
    """One version of a mask: what it cuts, how it was made, what it measured."""
    service = bootstrap.current()
    return MaskOut.of(service.registry.get(name, version), service.policy.model)


@router.delete("/masks/{name}/{version}", status_code=204, responses=errors(403, 404, 409, 413, 429, 503))
async def remove(name: Name, version: Number) -> Response:
    """Take a version out. Refused while a route, an alias or an experiment uses it; its number is never used again."""
    await bootstrap.current().delete(name, version)
    return Response(status_code=204)


@router.get(
    "/masks/{name}/{version}/file",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": _BINARY}}, **errors(404, 503)},
)
def download(name: Name, version: Number) -> FileResponse:
    """The mask file, byte for byte as it was registered."""
    registry = bootstrap.current().registry
    digest = registry.get(name, version).digest
    try:
        path = registry.files.fetched(digest)
    except StoreError as error:
        raise UnavailableError(str(error), code="mask_file_missing") from error
    if not path.is_file():
        raise UnavailableError(
            f"the file of mask {name}@{version} is gone from the store; register it again", code="mask_file_missing"
        )
    return FileResponse(path, media_type="application/octet-stream", filename=f"{name}-{version}.safetensors")
