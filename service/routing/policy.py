"""Routing: which mask answers a request. Pure functions of a policy, the request's `model` and its unit key.

model                 answered by
NAME, or none         the default route: a mask, or an experiment, whose split is by unit
NAME:base             the uncorrected model
NAME:detox            the alias `production` of mask `detox`, else its newest version
NAME:detox@2          that version
NAME:detox@candidate  where that alias points
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from service.errors import NotFoundError
from service.experiments.experiment import Experiment, Variant
from service.routing.assignment import assign, mirrored, shown_counts

BASE = "base"
EXPERIMENT = "experiment:"
PRODUCTION = "production"
"""The alias that a mask's name alone stands for."""
NUMBER = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class MaskVersion:
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
    warnings: tuple[str, ...] = ()
    """What it says against itself."""
    registered: int = 0
    """Seconds since 1970."""

    @property
    def label(self) -> str:
        """`name@version`, as in headers, metrics and model names."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Policy:
    """Everything routing knows; replaced as a whole when anything changes."""

    model: str
    """The served model's name, without a suffix."""
    masks: Mapping[str, Mapping[int, MaskVersion]] = field(default_factory=dict)
    """Versions by mask name and number, oldest first."""
    route: str = BASE
    """`base`, `detox`, `detox@1`, `detox@candidate` or `experiment:NAME`."""
    aliases: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Mask name → alias → version."""
    experiments: Mapping[str, Experiment] = field(default_factory=dict)


@dataclass(frozen=True)
class Assigned:
    """Where a request belongs in an experiment."""

    experiment: str
    epoch: int
    variant: str
    unit: str
    by_user: bool
    """Whether the unit may come again."""
    counted: bool
    """Whether this response may stand for its unit in the tests."""
    anonymous: bool = False
    """Whether the request named no user in an experiment by user: it is shown, and in no test."""
    share: float = 1.0
    """Of the units that get this variant, in force."""


@dataclass(frozen=True)
class Choice:
    """The answer: a registered mask, or None for the uncorrected model."""

    version: MaskVersion | None
    assigned: Assigned | None = None
    """Set where an experiment chose."""

    @property
    def label(self) -> str:
        """`detox@1` or `base`."""
        return self.version.label if self.version else BASE

    @property
    def digest(self) -> str:
        """The mask's digest; empty for the uncorrected model."""
        return self.version.digest if self.version else ""


@dataclass(frozen=True)
class Unit:
    """Who is asking: the key of the split."""

    request: str
    """Of this request alone."""
    user: str = ""
    """The user, where the request names one."""


@dataclass
class Routed:
    """A request on its way: what was chosen for it, and what the engine says made the response."""

    choice: Choice
    unit: str = ""
    """Key by which responses are sampled for scoring: the user, or this request."""
    shown: bool = True
    """Whether somebody waits for the answer; not so for a mirrored copy."""
    generated: bool = False
    """Whether the engine was asked: a request may ask it several times, and the first time alone counts in tests."""
    prompt: str = ""
    """What the user said last, where flagged responses are kept with it; empty where it is no text."""
    reported: bool = False
    """Whether the response that counts in tests has been handed on."""
    digest: str | None = None
    """Of the mask that the engine used, empty for none; None until it has answered."""


ROUTED: ContextVar[Routed | None] = ContextVar("excise_routed", default=None)
"""The request at hand: set in the gateway, read where the engine answers. None outside a request."""


def resolve(policy: Policy, target: str) -> Choice:
    """Find what `target` (`base`, `detox`, `detox@2`, `detox@candidate`) stands for now.

    A name alone is its alias `production`, else its newest version.

    Raises:
        NotFoundError: there is no such model, mask, version or alias.
    """
    if target == BASE:
        return Choice(None)
    name, at, wanted = target.partition("@")
    versions = policy.masks.get(name)
    if not versions:
        known = ", ".join(sorted(policy.masks)[:20]) or "none yet; register one with POST /masks"
        raise NotFoundError(f"there is no mask {name!r}; registered: {known}", code="mask_not_found", param="model")
    aliases = policy.aliases.get(name, {})
    if not at:
        return Choice(versions[aliases.get(PRODUCTION) or list(versions)[-1]])
    number = int(wanted) if NUMBER.fullmatch(wanted) else aliases.get(wanted)
    if number is not None and number in versions:
        return Choice(versions[number])
    have = ", ".join([*map(str, list(versions)[-20:]), *sorted(aliases)])
    raise NotFoundError(
        f"mask {name!r} has no version or alias {wanted!r}; it has {have}", code="mask_not_found", param="model"
    )


def choose(policy: Policy, model: str | None, unit: Unit) -> Choice:
    """Route one request. `model` is the body's field.

    Raises:
        NotFoundError: there is no such model, mask, version or alias.
    """
    if model is None or model == policy.model:
        return by_default_route(policy, unit)
    prefix = policy.model + ":"
    if not model.startswith(prefix):
        raise NotFoundError(
            f"the model {model!r} is not served here; use {policy.model!r}, '{prefix}base' or "
            f"'{prefix}MASK[@VERSION or @ALIAS]' (GET /v1/models lists them)",
            code="model_not_found",
            param="model",
        )
    return resolve(policy, model.removeprefix(prefix))


def by_default_route(policy: Policy, unit: Unit) -> Choice:
    """Along the default route. In a running experiment the unit's hash chooses the variant."""
    if not policy.route.startswith(EXPERIMENT):
        return resolve(policy, policy.route)
    experiment = policy.experiments[policy.route.removeprefix(EXPERIMENT)]
    if experiment.status != "running":
        return resolve(policy, experiment.fallback)
    key = _key(experiment, unit)
    variant = assign(experiment, key)
    counted = mirrored(experiment, key) is None or shown_counts(experiment, key)
    return _in(policy, experiment, variant, unit, counted, experiment.shares[-1][variant.name])


def copied(policy: Policy, choice: Choice, unit: Unit) -> Choice | None:
    """The mirrored variant under which the request of `choice` is to be answered again, unseen; most often none."""
    if choice.assigned is None:
        return None
    experiment = policy.experiments.get(choice.assigned.experiment)
    if experiment is None:  # deleted since
        return None
    key = _key(experiment, unit)
    variant = mirrored(experiment, key)
    if variant is None:
        return None
    return _in(policy, experiment, variant, unit, not shown_counts(experiment, key), variant.mirror)


def _key(experiment: Experiment, unit: Unit) -> str:
    """The unit's key in this experiment. A request that names no user is assigned by itself."""
    return f"user:{unit.user}" if experiment.unit == "user" and unit.user else f"request:{unit.request}"


def _in(policy: Policy, experiment: Experiment, variant: Variant, unit: Unit, counted: bool, share: float) -> Choice:
    by_user = experiment.unit == "user"
    anonymous = by_user and not unit.user
    assigned = Assigned(
        experiment.name,
        experiment.epoch,
        variant.name,
        _key(experiment, unit),
        by_user and not anonymous,
        counted and not anonymous,
        anonymous,
        share,
    )
    return Choice(resolve(policy, variant.mask).version, assigned)
