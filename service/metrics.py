"""Every Prometheus metric of Excise, once. The label ``mask`` is ``base`` or a registered ``name@version``."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

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
QUEUE_DEPTH = Gauge("excise_scoring_queue_depth", "Responses waiting to be scored.")
DROPPED = Counter("excise_scoring_dropped_total", "Responses never scored: the queue was full or the scorer failed.")
MASK_INFO = Gauge("excise_mask_info", "1 for each registered mask.", ["mask", "digest", "granularity"])
RESIDENT = Gauge("excise_masks_resident", "Masks in the engine's gates.")
EVICTIONS = Counter("excise_mask_evictions_total", "Masks that made room for another in the engine's gates.")
LOAD_SECONDS = Histogram(
    "excise_mask_load_seconds",
    "Time to read a mask and make it known to the engine, seconds.",
    buckets=[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
)
