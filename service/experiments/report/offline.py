"""What was measured of a mask before it was served, on prompts and texts that were held out when it was made."""

from __future__ import annotations

from masks import harm
from service.experiments.report.report_document import Offline, Share, estimate


def offline(measured: object) -> Offline:
    """Of a mask's `meta.measured`. It comes from outside: what has another shape is null."""
    figures = harm.figures(measured)
    rise = figures.perplexity
    return {
        "perplexity": estimate(rise.value, (rise.low, rise.high)) if rise else estimate(None, None),
        "behaviour": _share(figures.behaviour),
        "toxicity": _share(figures.toxic),
        "repetition": _share(figures.repetitive),
    }


def _share(change: harm.Change) -> Share:
    return {"before": change.before, "after": change.after}
