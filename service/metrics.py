"""Every Prometheus metric of Excise, once. The label `mask` is `base` or a registered `name@version`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Gauge, Histogram, generate_latest

from service.experiments.experiment import Experiment

RESPONSES = Counter("excise_responses_total", "Responses finished, by the mask that made them.", ["mask"])
TOXIC = Counter("excise_toxic_responses_total", "Scored responses at or over the scorer's threshold.", ["mask"])
REPETITIVE = Counter(
    "excise_repetitive_responses_total", "Scored responses with a uniqueness ratio under 0.5.", ["mask"]
)
TOXICITY = Histogram(
    "excise_toxicity_score", "Toxicity of scored responses, 0 to 1.", ["mask"], buckets=[i / 10 for i in range(1, 11)]
)
UNIQUENESS = Histogram(
    "excise_uniqueness_ratio",
    "Distinct tokens over tokens of scored responses.",
    ["mask"],
    buckets=[i / 10 for i in range(1, 11)],
)
SECONDS = Histogram(
    "excise_response_seconds",
    "Time in the engine until a response was finished, seconds.",
    ["mask"],
    buckets=[0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120],
)
SURPRISE = Histogram(
    "excise_surprise_nats",
    "Minus the coherence of judged responses: mean surprise of the base model, nats a token.",
    ["mask"],
    buckets=[0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12],
)
COHERENCE_DROPPED = Counter(
    "excise_coherence_dropped_total", "Responses to judge that were not: the queue was full, or the engine failed."
)
QUEUE_DEPTH = Gauge("excise_scoring_queue_depth", "Responses waiting to be scored.")
DROPPED = Counter("excise_scoring_dropped_total", "Responses never scored: the queue was full or the scorer failed.")
MASK_INFO = Gauge("excise_mask_info", "1 for each registered mask.", ["mask", "digest", "granularity"])
RESIDENT = Gauge("excise_masks_resident", "Masks in the engine's gates.")
HOLDS = Gauge("excise_mask_holds", "Whether a promoted mask, measured again, does what it was made for.", ["mask"])
EVICTIONS = Counter("excise_mask_evictions_total", "Masks that made room for another in the engine's gates.")
LOAD_SECONDS = Histogram(
    "excise_mask_load_seconds",
    "Time to read a mask and make it known to the engine, seconds.",
    buckets=[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
)
SCORED = Counter("excise_scored_responses_total", "Responses that were scored.", ["mask"])
SCORER_RESTARTS = Counter("excise_scorer_restarts_total", "Scoring processes that died and were started again.")
CIRCUIT_OPEN = Gauge("excise_scorer_circuit_open", "1 while a scorer that keeps failing is left alone.")

_ARM = ["experiment", "variant"]
EXPERIMENT_RESPONSES = Counter("excise_experiment_responses_total", "Responses in an experiment.", _ARM)
EXPERIMENT_SCORED = Counter("excise_experiment_scored_responses_total", "Scored ones of them.", _ARM)
EXPERIMENT_TOXIC = Counter("excise_experiment_toxic_responses_total", "Toxic ones of the scored.", _ARM)
EXPERIMENT_REPETITIVE = Counter("excise_experiment_repetitive_responses_total", "Repetitive ones of the scored.", _ARM)
EXPERIMENT_ERRORS = Counter("excise_experiment_errors_total", "Requests in an experiment that failed.", _ARM)
EXPERIMENT_JUDGED = Counter(
    "excise_experiment_judged_responses_total", "Responses in an experiment of known coherence.", _ARM
)
EXPERIMENT_SURPRISE = Counter(
    "excise_experiment_surprise_nats_total", "Sum over them of the nats a token, as excise_surprise_nats.", _ARM
)
EXPERIMENT_FEEDBACK = Counter("excise_experiment_feedback_total", "Responses that feedback was given on.", _ARM)
EXPERIMENT_GOOD_FEEDBACK = Counter("excise_experiment_good_feedback_total", "Those of them with feedback over 0.", _ARM)
EXPERIMENT_ANONYMOUS = Counter(
    "excise_experiment_anonymous_total", "Requests that named no user in an experiment by user: in no test.", _ARM
)
_OF_AN_EXPERIMENT = (
    EXPERIMENT_RESPONSES,
    EXPERIMENT_SCORED,
    EXPERIMENT_TOXIC,
    EXPERIMENT_REPETITIVE,
    EXPERIMENT_ERRORS,
    EXPERIMENT_ANONYMOUS,
    EXPERIMENT_JUDGED,
    EXPERIMENT_SURPRISE,
    EXPERIMENT_FEEDBACK,
    EXPERIMENT_GOOD_FEEDBACK,
)
SHARE = Gauge("excise_experiment_share", "Share of the units, as designed; 0 unless the experiment is running.", _ARM)
STOPPED = Counter(
    "excise_experiment_stopped_total", "Experiments stopped here, by operator or guardrail.", ["experiment", "reason"]
)
MIRROR_DROPPED = Counter("excise_mirror_dropped_total", "Copies of requests left out: too many were under way.")

DATABASE_UP = Gauge("excise_database_up", "1 while the database answers.")
OUTCOMES_WAITING = Gauge("excise_outcomes_waiting", "Outcomes of experiments not yet written to the database.")
OUTCOMES_WRITTEN = Counter("excise_outcomes_written_total", "Outcomes of experiments written to the database.")


_hidden: dict[str, None] = {}
"""Labels of masks that were deleted, the last few."""
_MOST_HIDDEN = 200


def show_mask(label: str, digest: str, granularity: str) -> None:
    """A mask is registered."""
    _hidden.pop(label, None)
    MASK_INFO.labels(label, digest, granularity).set(1)


def hide_mask(label: str) -> None:
    """A mask was deleted: forget what was counted under its label."""
    MASK_INFO.remove_by_labels({"mask": label})
    _hidden[label] = None
    while len(_hidden) > _MOST_HIDDEN:
        del _hidden[next(iter(_hidden))]
    sweep()


def show_holds(held: Mapping[str, bool]) -> None:
    """Promoted masks that were measured again, and whether they hold; others are no longer shown."""
    for gone in _held - held.keys():
        HOLDS.remove(gone)
    _held.clear()
    for label, holds in held.items():
        HOLDS.labels(label).set(holds)
        _held.add(label)


_held: set[str] = set()
"""Masks of which it is shown."""


def sweep() -> None:
    """Forget deleted masks again: a response that was on its way may have been counted since."""
    for label in _hidden:
        for metric in (RESPONSES, TOXIC, REPETITIVE, TOXICITY, UNIQUENESS, SECONDS, SCORED, SURPRISE):
            with contextlib.suppress(KeyError):
                metric.remove(label)


def exposition() -> tuple[bytes, str]:
    """Every metric of this process as text, and its media type. Slow where there are many: call it from a thread."""
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST


_shown: set[str] = set()
"""Experiments that have been shown."""


def shows(experiment: str) -> bool:
    """Whether an experiment may be counted: what is deleted must not come back."""
    return experiment in _shown


def show_experiments(experiments: Iterable[Experiment]) -> None:
    """The designed split, of each experiment that there is; what was counted in those that are gone is forgotten."""
    known = {experiment.name: experiment for experiment in experiments}
    for name in _shown - known.keys():
        for metric in (*_OF_AN_EXPERIMENT, SHARE, STOPPED):
            metric.remove_by_labels({"experiment": name})
    _shown.clear()
    _shown.update(known)
    for experiment in known.values():
        for variant in experiment.variants:
            for metric in _OF_AN_EXPERIMENT:
                metric.labels(experiment.name, variant.name)  # there from 0 on: a rate needs a first value
        for variant in experiment.arms:
            running = experiment.status == "running"
            SHARE.labels(experiment.name, variant.name).set(experiment.shares[-1][variant.name] if running else 0)
