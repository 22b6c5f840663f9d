"""The page on the metrics, from ``service.metrics``."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics import MetricWrapperBase

from docs.generate.markdown import cell, table
from service import metrics

HEAD = """\
# Metrics

`GET /metrics` has these beside vLLM's own. The label `mask` is `base` or `NAME@VERSION`, or `other` beyond
`EXCISE_MAX_LABELS` different masks. A response is toxic at the scorer's threshold or over it (0.5 for the built-in
scorer), and repetitive where fewer than half of its tokens are distinct. Only what was scored counts: read a rate
beside the share that was scored. [Watch a server](../how-to/monitor.md) says how to use them.
"""


def page() -> Iterator[str]:
    """Name, type, labels and meaning of each metric."""
    yield HEAD
    rows = []
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            name = metric._name + ("_total" if metric._type == "counter" else "")
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            rows.append([f"`{name}`", str(metric._type), labels, cell(metric._documentation)])
    yield table(("metric", "type", "labels", "what"), rows)
