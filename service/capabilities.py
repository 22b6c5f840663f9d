"""What this server can serve: every mask per request, only the one it was loaded with, or none with single weights."""

from __future__ import annotations

from dataclasses import dataclass

import masks
from service.errors import ConflictError
from service.routing.policy import Choice, MaskVersion


@dataclass
class Capabilities:
    """Of one server; what the engine can do is known once it has started."""

    base: masks.BaseModel
    gated: bool
    """Whether the engine has gates, that is, can apply a mask per request."""
    max_weight_rank: int
    fixed_weights: str = ""
    """Why the engine cannot apply masks of single weights per request, or empty."""
    baked: MaskVersion | None = None
    """The mask that the engine was loaded with."""

    def check(self, choice: Choice) -> None:
        """Raise `ConflictError` where this server cannot serve `choice`, saying what can."""
        version = choice.version
        if self.baked:
            if version != self.baked:
                raise ConflictError(
                    f"this server was loaded with {self.baked.label} and serves nothing else; for {choice.label} "
                    "start one without --mask",
                    code="mask_not_usable",
                    param="model",
                )
            return
        if version is None:
            return
        if version.foreign:
            raise ConflictError(
                f"mask {version.label} was made for a model with fingerprint {version.foreign}, this one has "
                f"{self.base.fingerprint}; make one for this model, or start with --allow-other-base",
                code="mask_for_another_model",
                param="model",
            )
        reason = None
        if not self.gated:
            reason = f"this model's architecture ({self.base.architecture}) has no gates"
        elif version.weights:
            reason = self._refused_weights(version)
        if reason:
            raise ConflictError(
                f"{reason}; bake it in at load: excise serve --model … --mask {version.label}",
                code="mask_not_usable",
                param="model",
            )

    def _refused_weights(self, version: MaskVersion) -> str | None:
        cuts = f"mask {version.label} cuts {version.weights} single weights"
        limit = self.max_weight_rank
        if version.rank is None:
            return f"{cuts}, some of them outside the layers' projections, where nothing can be changed per request"
        if version.rank > limit:
            return (
                f"{cuts}, which takes factors of rank {version.rank} per request; the limit is {limit} "
                "(--max-weight-rank)"
            )
        if self.fixed_weights:
            return f"{cuts}, which this engine cannot change per request: {self.fixed_weights}"
        return None
