"""Routing: which mask answers a request. Pure functions of a policy, the request's ``model`` and its unit key.

    model                 answered by
    NAME, or none         the default route: one target, or a weighted split by unit
    NAME:base             the uncorrected model
    NAME:detox            the newest version of mask ``detox``
    NAME:detox@2          that version

The unit key is the body's ``user`` where there is one, so that a user keeps a variant; else the request itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from service.errors import NotFoundError

BASE = "base"


@dataclass(frozen=True)
class Version:
    """One registered mask, as routing sees it."""

    name: str
    version: int
    digest: str
    weights: int
    """How many single weights it cuts."""
    rank: int | None = 0
    """What their factors take per request, the largest of all matrices; None where one is no layer's projection."""
    foreign: str = ""
    """The fingerprint of the model that it was made for, where that is not the served one."""

    @property
    def label(self) -> str:
        """``name@version``, as in headers, metrics and model names."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Share:
    """One arm of the default route. ``target`` is ``base``, ``detox`` or ``detox@1``; ``weight`` is relative, > 0."""

    target: str
    weight: float = 1.0


@dataclass(frozen=True)
class Policy:
    """Everything routing knows; replaced as a whole when anything changes."""

    model: str
    """The served model's name, without a suffix."""
    masks: Mapping[str, tuple[Version, ...]] = field(default_factory=dict)
    """Versions by mask name, oldest first."""
    route: tuple[Share, ...] = (Share(BASE),)


@dataclass(frozen=True)
class Choice:
    """The answer: a registered mask, or None for the uncorrected model."""

    version: Version | None

    @property
    def label(self) -> str:
        """``detox@1`` or ``base``."""
        return self.version.label if self.version else BASE

    @property
    def digest(self) -> str:
        """The mask's digest; empty for the uncorrected model."""
        return self.version.digest if self.version else ""


@dataclass
class Routed:
    """A request on its way: what was chosen for it, and what the engine says made the response."""

    choice: Choice
    digest: str | None = None
    """Of the mask that the engine used, empty for none; None until it has answered."""


ROUTED: ContextVar[Routed | None] = ContextVar("excise_routed", default=None)
"""The request at hand: set in the gateway, read where the engine answers. None outside a request."""


def resolve(policy: Policy, target: str) -> Choice:
    """Find what ``target`` (``base``, ``detox``, ``detox@2``) stands for. Raises ``NotFoundError``."""
    if target == BASE:
        return Choice(None)
    name, at, number = target.partition("@")
    versions = policy.masks.get(name, ())
    if not versions:
        known = ", ".join(sorted(policy.masks)) or "none yet; register one with POST /masks"
        raise NotFoundError(f"there is no mask {name!r}; registered: {known}", code="mask_not_found", param="model")
    if not at:
        return Choice(versions[-1])
    for version in versions:
        if str(version.version) == number:
            return Choice(version)
    have = ", ".join(str(version.version) for version in versions[-20:])
    raise NotFoundError(f"mask {name!r} has no version {number!r}; it has {have}", code="mask_not_found", param="model")


def choose(policy: Policy, model: str | None, unit: str) -> Choice:
    """Route one request. ``model`` is the body's field, ``unit`` the key of the split. Raises ``NotFoundError``."""
    if model is None or model == policy.model:
        return resolve(policy, pick(policy.route, unit))
    prefix = policy.model + ":"
    if not model.startswith(prefix):
        raise NotFoundError(
            f"the model {model!r} is not served here; use {policy.model!r}, '{prefix}base' or '{prefix}MASK[@VERSION]' "
            "(GET /v1/models lists them)",
            code="model_not_found",
            param="model",
        )
    return resolve(policy, model.removeprefix(prefix))


def pick(route: tuple[Share, ...], unit: str) -> str:
    """Choose an arm of ``route`` by a hash of ``unit``: exact in the long run, the same unit always the same arm."""
    total = sum(share.weight for share in route)
    point = int.from_bytes(hashlib.blake2b(unit.encode(errors="surrogatepass"), digest_size=8).digest()) / 2**64 * total
    for share in route:
        point -= share.weight
        if point < 0:
            return share.target
    return route[-1].target  # rounding in the last place
