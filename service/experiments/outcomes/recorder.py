"""The recorder: what becomes of a response once it was scored. Outcomes and metrics of experiments, flagged ones."""

from __future__ import annotations

from service import metrics
from service.experiments.outcomes.answers import Answer
from service.experiments.outcomes.ledger import Ledger
from service.experiments.outcomes.totals import Outcome, Value
from service.routing.policy import Routed
from service.scoring.flagged import Flagged
from service.scoring.response import Response, Scored
from service.traffic import Traffic


class Recorder:
    """Hands each response, and each failed request, of an experiment to the ledger. Lives on the event loop."""

    def __init__(self, ledger: Ledger, flagged: Flagged, traffic: Traffic) -> None:
        self._ledger = ledger
        self._flagged = flagged
        self._traffic = traffic

    def scored(self, scored: Scored) -> None:
        """A response has been scored, or will never be."""
        self._flagged.put(scored)
        self._traffic.scored(scored)
        response, assigned = scored.response, scored.response.assigned
        if assigned is None or not metrics.shows(assigned.experiment):  # or it was deleted since
            return
        labels = assigned.experiment, assigned.variant
        metrics.EXPERIMENT_RESPONSES.labels(*labels).inc()
        metrics.EXPERIMENT_ANONYMOUS.labels(*labels).inc(assigned.anonymous)
        if scored.toxic is not None:
            metrics.EXPERIMENT_SCORED.labels(*labels).inc()
            metrics.EXPERIMENT_TOXIC.labels(*labels).inc(scored.toxic)
            metrics.EXPERIMENT_REPETITIVE.labels(*labels).inc(scored.repetitive)
        self._ledger.add(
            Outcome(
                assigned.experiment,
                assigned.epoch,
                assigned.variant,
                assigned.unit,
                counted=assigned.counted and response.counted,
                by_user=assigned.by_user,
                truncated=response.truncated,
                tokens=len(response.tokens),
                seconds=response.seconds,
                toxic=scored.toxic,
                repetitive=scored.repetitive,
                refusal=scored.refusal,
                anonymous=assigned.anonymous,
            )
        )

    def judged(self, response: Response, coherence: float) -> None:
        """The coherence of a response has become known, in nats a token."""
        metrics.SURPRISE.labels(response.mask).observe(-coherence)
        self._traffic.judged(response, coherence)
        assigned = response.assigned
        if assigned is None or not metrics.shows(assigned.experiment):
            return
        labels = assigned.experiment, assigned.variant
        metrics.EXPERIMENT_JUDGED.labels(*labels).inc()
        metrics.EXPERIMENT_SURPRISE.labels(*labels).inc(-coherence)
        counted = assigned.counted and response.counted
        where = assigned.experiment, assigned.epoch, assigned.variant, assigned.unit
        self._ledger.add(Value(*where, counted, assigned.by_user, "coherence", coherence))

    def rated(self, answer: Answer, feedback: float) -> None:
        """Somebody gave feedback on a response, −1 to 1."""
        if not metrics.shows(answer.experiment):
            return
        labels = answer.experiment, answer.variant
        metrics.EXPERIMENT_FEEDBACK.labels(*labels).inc()
        metrics.EXPERIMENT_GOOD_FEEDBACK.labels(*labels).inc(feedback > 0)
        where = answer.experiment, answer.epoch, answer.variant, answer.unit
        self._ledger.add(Value(*where, answer.counted, answer.by_user, "feedback", feedback))

    def failed(self, routed: Routed) -> None:
        """A request failed under a variant, by no fault of the client."""
        assigned = routed.choice.assigned
        if assigned is None or not metrics.shows(assigned.experiment):
            return
        metrics.EXPERIMENT_ERRORS.labels(assigned.experiment, assigned.variant).inc()
        metrics.EXPERIMENT_ANONYMOUS.labels(assigned.experiment, assigned.variant).inc(assigned.anonymous)
        self._ledger.add(
            Outcome(
                assigned.experiment,
                assigned.epoch,
                assigned.variant,
                assigned.unit,
                counted=assigned.counted and not routed.told,
                by_user=assigned.by_user,
                error=True,
                anonymous=assigned.anonymous,
            )
        )
