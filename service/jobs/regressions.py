"""Regressions: every promoted mask is measured again now and then, and the metrics say whether it still holds."""

from __future__ import annotations

import asyncio
import logging

from service import metrics
from service.control import Control
from service.errors import ServiceError
from service.jobs.job import Job, Spec
from service.jobs.store import Jobs
from service.routing.policy import EXPERIMENT, PRODUCTION, MaskVersion, Policy, resolve

_log = logging.getLogger(__name__)
_DAY = 86_400.0


def promoted(policy: Policy) -> dict[str, MaskVersion]:
    """Label → the masks that users get without asking: that of the default route, and every `production`."""
    target = policy.route
    if target.startswith(EXPERIMENT):
        target = policy.experiments[target.removeprefix(EXPERIMENT)].fallback
    targets = [target, *(f"{name}@{PRODUCTION}" for name, aliases in policy.aliases.items() if PRODUCTION in aliases)]
    versions = [resolve(policy, each).version for each in targets]
    return {version.label: version for version in versions if version}


class Regressions:
    """Asks for measurements when they are due, and shows what they said. On each replica; one of them asks."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._jobs = Jobs(control.database)

    async def conduct(self) -> None:
        """Look once. Raises `DatabaseLostError`."""
        await asyncio.to_thread(self._look)

    def _look(self) -> None:
        versions = promoted(self._control.policy)
        held = {label: holds for label in versions if (holds := self._holds(label)) is not None}
        metrics.show_holds(held)
        days = self._control.settings.regression_days
        for label, version in versions.items() if days else ():
            self._ask(label, version, days)

    def _holds(self, label: str) -> bool | None:
        """What was last found; None where it never was."""
        done = self._jobs.newest("regression", label, state="done")
        return bool(done.made["holds"]) if done else None

    def _ask(self, label: str, version: MaskVersion, days: float) -> None:
        now, last = self._control.clock(), self._jobs.newest("regression", label)
        since = last.created_at if last else version.registered
        if (last and not last.over) or now < since + days * _DAY:
            return
        made_by = self._jobs.newest("improve", version.name, state="promoted")
        test = made_by.spec.test if made_by and made_by.made.get("mask") == label else "toxicity"
        number = int(last.id.rpartition("-")[2]) + 1 if last and last.id.rpartition("-")[2].isdecimal() else 1
        id = f"again-{version.digest[:12]}-{number}"  # named after what it is about: two replicas ask for one
        try:
            self._jobs.create(Job(id, "regression", Spec(label, test), created_at=now, changed_at=now))
        except ServiceError as error:
            _log.warning("mask %s is not measured again: %s", label, error.message)
