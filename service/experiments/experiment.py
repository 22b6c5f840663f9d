"""Experiments: what one is, which states it goes through, and its JSON. Frozen values and pure functions.

    running ⇄ paused       paused: everybody gets the control, nobody is counted
    running, paused → stopped   by an operator or a guardrail; everybody gets the winner, or the control

An **epoch** begins whenever the weights change; outcomes carry its number, and statistics are made within epochs.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from service.errors import ConflictError, InvalidRequestError

Rate = Literal["toxicity", "repetition", "refusal", "error"]
Mean = Literal["coherence", "feedback"]
Metric = Literal[Rate, "latency_p95", "length", Mean]
Goal = Literal[Rate, "feedback"]
RATES: tuple[Rate, ...] = get_args(Rate)
MEANS: tuple[Mean, ...] = get_args(Mean)
"""Of numbers that become known of some responses only, and later. Higher is better."""
Status = Literal["running", "paused", "stopped"]

COHERENCE_MARGIN = 0.5
"""Nats a token: by how much more the coherence of a variant may fall, unless its experiment says otherwise. Gibberish
falls by several; a mask that takes loops away, which the base finds likely, may fall by some tenths."""

MOST_EPOCHS = 64
"""Periods of an experiment, for a report takes the longer the more there are."""

LEAST_SHARE = 1e-6
"""Of a variant that users see: less would never be met, and numbers would no longer tell it from nothing."""


@dataclass(frozen=True)
class Variant:
    """One arm: a mask, and its share of the units."""

    name: str
    mask: str
    """`base` or `name@version`: a version never changes, so neither does what an arm means."""
    weight: float = 0.0
    """Relative to the other variants' weights."""
    mirror: float = 0.0
    """Share of the units whose requests are answered a second time under this mask, unseen; then `weight` is 0."""


@dataclass(frozen=True)
class Guardrail:
    """A bound: when the evidence says that a variant crossed it, the experiment stops."""

    metric: Metric
    direction: Literal["increase", "decrease"] = "increase"
    margin: float = 0.0
    """How much more (less) than the control is still allowed; a part of the control's for latency and length."""

    @staticmethod
    def default_direction(metric: Metric) -> Literal["increase", "decrease"]:
        """Which way is for the worse."""
        return "decrease" if metric in MEANS else "increase"


@dataclass(frozen=True)
class Step:
    """One step of a ramp: the share of all variants but the control together, and when the next step may come."""

    share: float
    minutes: float = 0.0
    responses: int = 0
    """Counted responses of each variant in this step."""


@dataclass(frozen=True)
class Experiment:
    """An experiment as it stands; replaced as a whole when anything changes."""

    name: str
    variants: tuple[Variant, ...]
    control: str
    unit: Literal["user", "request"] = "user"
    metric: Goal = "toxicity"
    """What the decision is about; lower is better, of feedback higher."""
    margin: float = 0.01
    """The smallest difference in the metric that matters, absolute: the verdict is about differences beyond it."""
    alpha: float = 0.05
    guardrails: tuple[Guardrail, ...] = ()
    ramp: tuple[Step, ...] = ()
    step: int = 0
    """The ramp's step in force."""
    step_since: float = 0.0
    """When it began, seconds since 1970."""
    shares: tuple[Mapping[str, float], ...] = field(default_factory=tuple)
    """For each epoch so far: variant → share of the units, as designed. The last is in force."""
    salt: str = field(default_factory=lambda: secrets.token_hex(8))
    """Makes this experiment's split independent of every other's."""
    status: Status = "running"
    reason: str = ""
    """Why it was stopped."""
    winner: str | None = None
    created_at: float = 0.0
    stopped_at: float = 0.0
    """Seconds since 1970; 0 unless it is stopped."""
    revision: int = 1
    """Raised by every change; a change names the revision that it was made on."""

    @property
    def epoch(self) -> int:
        """Number of the epoch in force, from 0."""
        return len(self.shares) - 1

    @property
    def arms(self) -> tuple[Variant, ...]:
        """The variants that users see."""
        return tuple(variant for variant in self.variants if not variant.mirror)

    @property
    def mirrors(self) -> tuple[Variant, ...]:
        """The variants that only answer copies."""
        return tuple(variant for variant in self.variants if variant.mirror)

    def variant(self, name: str) -> Variant:
        """The variant of this name."""
        return next(variant for variant in self.variants if variant.name == name)

    @property
    def fallback(self) -> str:
        """The mask of the winner, or of the control: what everybody gets unless the experiment is running."""
        return self.variant(self.winner or self.control).mask

    def document(self) -> dict[str, Any]:
        """As JSON, to be stored."""
        return asdict(self)

    @staticmethod
    def of(document: Mapping[str, Any]) -> Experiment:
        """Back from `document`."""
        parts = {
            "variants": tuple(Variant(**one) for one in document["variants"]),
            "guardrails": tuple(Guardrail(**one) for one in document["guardrails"]),
            "ramp": tuple(Step(**one) for one in document["ramp"]),
            "shares": tuple(document["shares"]),
        }
        return Experiment(**{**document, **parts})


def begin(experiment: Experiment, now: float) -> Experiment:
    """Check a new experiment and put its first epoch in force.

    Raises:
        InvalidRequestError: it cannot be run.
    """
    _check_names(experiment)
    for variant in experiment.variants:
        _check_weight(variant)
    if sum(variant.mirror for variant in experiment.mirrors) > 1 + 1e-9:  # 0.1 is no exact number
        raise _bad("the mirrored shares add up to more than 1; a request is answered under one of them", "mirror")
    if len(experiment.variants) < 2:
        raise _bad("an experiment needs two variants, to compare them", "variants")
    _check_bounds(experiment)
    _check_ramp(experiment)
    begun = replace(experiment, created_at=now, step_since=now)
    for step, each in enumerate(experiment.ramp):
        if step and each.share != 1:  # the first is checked below; one to everybody has no shares
            _shares(replace(begun, step=step))
    return replace(begun, shares=(_shares(begun),))


def reweighted(experiment: Experiment, weights: Mapping[str, float], now: float) -> Experiment:
    """With other weights, in a new epoch; a ramp ends, for the operator has taken over.

    Raises:
        ServiceError: it was stopped, had too many epochs, or the weights are bad.
    """
    _alive(experiment)
    if len(experiment.shares) >= MOST_EPOCHS:
        raise ConflictError(
            f"the experiment {experiment.name!r} had {MOST_EPOCHS} periods, each with weights of its own, and takes no "
            "more; stop it and make a new one",
            code="too_many_epochs",
        )
    if not weights:
        raise _bad("no weights are given", "weights")
    shown = {variant.name for variant in experiment.arms}
    if unknown := set(weights) - shown:
        raise _bad(f"no weight can be given to {sorted(unknown)}; users see {sorted(shown)}", "weights")
    variants = tuple(replace(v, weight=weights.get(v.name, v.weight)) for v in experiment.variants)
    if any(variant.weight <= 0 for variant in variants if not variant.mirror):
        raise _bad("a weight must be over 0; stop the experiment to take a variant out", "weights")
    changed = replace(experiment, variants=variants, ramp=(), step=0, step_since=now)
    return replace(changed, shares=(*experiment.shares, _shares(changed)))


def next_step(experiment: Experiment, now: float) -> Experiment:
    """On the ramp's next step, in a new epoch. A step to everybody ends the experiment: the variant has won."""
    if experiment.ramp[experiment.step + 1].share == 1:
        winner = next(variant.name for variant in experiment.arms if variant.name != experiment.control)
        return stopped(experiment, "the ramp is over", winner)
    stepped = replace(experiment, step=experiment.step + 1, step_since=now)
    return replace(stepped, shares=(*experiment.shares, _shares(stepped)))


def guarded(experiment: Experiment, guardrails: tuple[Guardrail, ...]) -> Experiment:
    """With other guardrails.

    Raises:
        ServiceError: it was stopped, or a bound means nothing.
    """
    _alive(experiment)
    changed = replace(experiment, guardrails=guardrails)
    _check_bounds(changed)
    return changed


def with_coherence(guardrails: tuple[Guardrail, ...]) -> tuple[Guardrail, ...]:
    """With the guardrail against gibberish, unless they have one of their own."""
    if any(guardrail.metric == "coherence" for guardrail in guardrails):
        return guardrails
    return (*guardrails, Guardrail("coherence", "decrease", COHERENCE_MARGIN))


def paused(experiment: Experiment) -> Experiment:
    """Paused.

    Raises:
        ConflictError: it was stopped.
    """
    _alive(experiment)
    return replace(experiment, status="paused")


def resumed(experiment: Experiment, now: float) -> Experiment:
    """Running again, in a new epoch unless there were very many.

    Raises:
        ConflictError: it was stopped.
    """
    _alive(experiment)
    if experiment.status == "running":
        return experiment
    anew = (experiment.shares[-1],) if len(experiment.shares) < MOST_EPOCHS // 2 else ()  # a ramp needs up to 31 more
    return replace(experiment, status="running", step_since=now, shares=(*experiment.shares, *anew))


def stopped(experiment: Experiment, reason: str, winner: str | None = None) -> Experiment:
    """Stopped for good.

    Raises:
        ServiceError: it was stopped before, or there is no such winner.
    """
    _alive(experiment)
    if winner is not None and winner not in {variant.name for variant in experiment.variants}:
        names = [variant.name for variant in experiment.variants]
        raise _bad(f"the winner {winner!r} is none of the variants {names}", "winner")
    return replace(experiment, status="stopped", reason=reason, winner=winner)


def _shares(experiment: Experiment) -> dict[str, float]:
    """Variant → share of the units, by weights and the ramp's step, adding up to 1.

    Raises:
        InvalidRequestError: a variant would get next to nothing.
    """
    weights = {variant.name: variant.weight for variant in experiment.arms}
    if experiment.ramp:
        ramped = experiment.ramp[experiment.step].share
        weights.pop(experiment.control)
        shares = {name: ramped * (weight / sum(weights.values())) for name, weight in weights.items()}
        shares[experiment.control] = 1 - ramped
    else:
        shares = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    for name, share in shares.items():
        if share < LEAST_SHARE:
            raise _bad(
                f"variant {name!r} would get {share:.2g} of the units; give each variant at least {LEAST_SHARE:g}",
                "weight",
            )
    return shares


def _check_names(experiment: Experiment) -> None:
    names = [variant.name for variant in experiment.variants]
    if len(set(names)) < len(names):
        raise _bad("two variants have the same name", "variants")
    if experiment.control not in {variant.name for variant in experiment.arms}:
        raise _bad(f"the control {experiment.control!r} is none of the variants that users see", "control")


def _check_weight(variant: Variant) -> None:
    if variant.mirror and variant.weight:
        raise _bad(f"variant {variant.name!r} has a weight and mirrors; a mirrored variant is never shown", "weight")
    if not variant.mirror and not variant.weight:
        raise _bad(f"variant {variant.name!r} has neither a weight nor a share to mirror", "weight")


def _check_ramp(experiment: Experiment) -> None:
    if experiment.ramp and len(experiment.arms) < 2:
        raise _bad("a ramp needs a variant beside the control; mirrored ones are not ramped", "ramp")
    shares = [step.share for step in experiment.ramp]
    if shares != sorted(set(shares)):
        raise _bad("the steps of a ramp must have rising shares", "ramp")
    if 1 in shares and (len(shares) < 2 or len(experiment.arms) != 2):
        raise _bad(
            "a last step to everybody (share 1) needs a step before it and one variant beside the control", "ramp"
        )


def _check_bounds(experiment: Experiment) -> None:
    for guardrail in experiment.guardrails:
        if guardrail.metric not in RATES or guardrail.margin < 1:
            continue
        raise _bad(f"the guardrail of {guardrail.metric} allows {guardrail.margin:g}, more than every rate", "margin")


def _alive(experiment: Experiment) -> None:
    if experiment.status == "stopped":
        raise ConflictError(
            f"the experiment {experiment.name!r} was stopped ({experiment.reason}), and stays so; make a new one",
            code="experiment_stopped",
        )


def _bad(message: str, param: str) -> InvalidRequestError:
    return InvalidRequestError(message, code="invalid_experiment", param=param)
