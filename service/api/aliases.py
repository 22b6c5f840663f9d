"""`/masks/{name}/aliases`: names that point at a version of a mask, such as `production`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from service import bootstrap
from service.api.masks import Name
from service.api.pagination import Limit, Offset, listed
from service.api.schemas import CHANGES, AliasList, AliasOut, AliasTo, errors
from service.errors import NotFoundError, about
from service.routing.mask_warnings import warnings

router = APIRouter(tags=["aliases"])

Alias = Annotated[str, Path(pattern=r"^[a-z][a-z0-9._-]{0,63}$")]


def _out(name: str, alias: str, version: int) -> AliasOut:
    policy = bootstrap.current().policy
    said = warnings(policy, f"{name}@{version}")
    return AliasOut(mask=name, alias=alias, version=version, model=f"{policy.model}:{name}@{alias}", warnings=said)


@router.get("/masks/{name}/aliases", response_model=AliasList, responses=errors(404))
def list_aliases(name: Name, offset: Offset = 0, limit: Limit = 100) -> Response:
    """The aliases of a mask by name, a page at a time. `production` is what its name alone stands for."""
    policy = bootstrap.current().policy
    if name not in policy.masks:
        raise NotFoundError(f"there is no mask {name!r}; GET /masks lists them", code="mask_not_found", param="name")
    aliases = sorted(policy.aliases.get(name, {}).items())
    return listed((_out(name, *one) for one in aliases[offset : offset + limit]), total=len(aliases))


@router.put("/masks/{name}/aliases/{alias}", responses=CHANGES)
async def point(name: Name, alias: Alias, body: AliasTo) -> AliasOut:
    """Point an alias at a version, for the next request on."""
    service = bootstrap.current()
    with about("version" if name in service.policy.masks else "name"):
        await service.prepare(f"{name}@{body.version}")
    await service.administer(service.state.set_alias, name, alias, body.version)
    return _out(name, alias, body.version)


@router.post("/masks/{name}/aliases/{alias}/rollback", responses=CHANGES)
async def roll_back(name: Name, alias: Alias) -> AliasOut:
    """Point an alias back at the version before; again: at the one before that."""
    service = bootstrap.current()
    return _out(name, alias, await service.administer(service.state.rollback_alias, name, alias))


@router.delete("/masks/{name}/aliases/{alias}", status_code=204, responses=CHANGES)
async def remove(name: Name, alias: Alias) -> Response:
    """Take an alias away."""
    service = bootstrap.current()
    await service.administer(service.state.remove_alias, name, alias)
    return Response(status_code=204)
